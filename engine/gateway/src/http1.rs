//! HTTP/1.1, by hyper.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;

use bytes::Bytes;
use http::{Request, Response, header};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpStream;
use tokio::sync::watch;

use crate::rest;
use crate::shared::{Shared, Signal};

/// Heads larger than this are refused.
const MAX_HEAD_BYTES: usize = 64 << 10;

fn builder(shared: &Shared) -> hyper::server::conn::http1::Builder {
    let mut builder = hyper::server::conn::http1::Builder::new();
    // Between requests the head's time-out is what closes an idle connection, so it is the keep-alive time.
    builder.timer(TokioTimer::new()).header_read_timeout(shared.keep_alive).max_buf_size(MAX_HEAD_BYTES.max(1 << 20)).pipeline_flush(true);
    builder
}

/// Serve one connection.
pub async fn serve(shared: &Arc<Shared>, stream: TcpStream, signal: &Signal) {
    let service = service_fn(|request: Request<Incoming>| rest::serve_http1(shared, request));
    let mut connection = pin!(builder(shared).serve_connection(TokioIo::new(stream), service));
    let mut finishing = false;
    // What ends a connection early is the client's doing; there is nobody left to tell.
    let _ = poll_fn(|context| {
        if !finishing && signal.is_finishing(context) {
            finishing = true;
            connection.as_mut().graceful_shutdown();
        }
        connection.as_mut().poll(context)
    })
    .await;
}

/// Serve the metrics port until told to stop.
pub async fn serve_metrics(shared: Arc<Shared>, listener: std::net::TcpListener, mut stop: watch::Receiver<bool>) {
    let Ok(listener) = tokio::net::TcpListener::from_std(listener) else { return };
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = stop.wait_for(|&stop| stop) => return,
        };
        let Ok((stream, _)) = accepted else { continue };
        let shared = shared.clone();
        tokio::spawn(async move {
            let service = service_fn(|request: Request<Incoming>| {
                let response = metrics_page(&shared, request.uri().path());
                async move { Ok::<_, std::convert::Infallible>(response) }
            });
            let _ = builder(&shared).serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

fn metrics_page(shared: &Shared, path: &str) -> Response<Full<Bytes>> {
    let (status, text) = match path {
        "/metrics" => (200, bettong_telemetry::text::render(&shared.registry, &shared.version)),
        _ => (404, "metrics are at /metrics\n".to_owned()),
    };
    let mut response = Response::new(Full::new(Bytes::from(text)));
    *response.status_mut() = http::StatusCode::from_u16(status).unwrap_or_default();
    response.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static(bettong_telemetry::text::CONTENT_TYPE));
    response
}

