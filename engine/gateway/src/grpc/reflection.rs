//! `grpc.reflection.v1` and `v1alpha`, whose messages are the same on the wire.

use std::collections::BTreeMap;
use std::future::poll_fn;
use std::sync::{Arc, OnceLock};

use bettong_frame::{Error, ErrorKind};
use bettong_wire::grpc::{MessageReader, framed};
use bettong_wire::proto::SERVED_DESCRIPTORS;
use bettong_wire::proto::grpc::reflection::v1::{
    ErrorResponse, ExtensionNumberResponse, FileDescriptorResponse, ListServiceResponse, ServerReflectionRequest,
    ServerReflectionResponse, ServiceResponse, server_reflection_request::MessageRequest,
    server_reflection_response::MessageResponse,
};
use bytes::Bytes;
use h2::RecvStream;
use h2::server::SendResponse;
use prost::Message;
use prost_types::{DescriptorProto, FileDescriptorProto, FileDescriptorSet};

use super::{respond, services};
use crate::head::Head;
use crate::shared::Shared;

/// Files by name, and the file of each symbol.
struct Index {
    files: BTreeMap<String, Bytes>,
    symbols: BTreeMap<String, String>,
    services: Vec<String>,
}

fn index() -> &'static Index {
    static INDEX: OnceLock<Index> = OnceLock::new();
    INDEX.get_or_init(|| {
        // Compiled in, so that it always decodes.
        let set = FileDescriptorSet::decode(SERVED_DESCRIPTORS).unwrap_or_default();
        let mut index = Index { files: BTreeMap::new(), symbols: BTreeMap::new(), services: Vec::new() };
        for file in &set.file {
            index.files.insert(file.name().to_owned(), file.encode_to_vec().into());
            add_symbols(&mut index, file);
        }
        index
    })
}

fn add_symbols(index: &mut Index, file: &FileDescriptorProto) {
    let package = file.package();
    let mut symbols = Vec::new();
    for message in &file.message_type {
        add_message(&mut symbols, package, message);
    }
    symbols.extend(file.enum_type.iter().map(|enumeration| format!("{package}.{}", enumeration.name())));
    for service in &file.service {
        let full = format!("{package}.{}", service.name());
        symbols.extend(service.method.iter().map(|method| format!("{full}.{}", method.name())));
        symbols.push(full.clone());
        index.services.push(full);
    }
    index.symbols.extend(symbols.into_iter().map(|symbol| (symbol, file.name().to_owned())));
}

fn add_message(symbols: &mut Vec<String>, scope: &str, message: &DescriptorProto) {
    let full = format!("{scope}.{}", message.name());
    for nested in &message.nested_type {
        add_message(symbols, &full, nested);
    }
    symbols.extend(message.enum_type.iter().map(|enumeration| format!("{full}.{}", enumeration.name())));
    symbols.push(full);
}

fn not_found(message: String) -> MessageResponse {
    let error_code = i32::from(ErrorKind::NotFound.grpc_code());
    MessageResponse::ErrorResponse(ErrorResponse { error_code, error_message: message })
}

fn file(name: &str) -> MessageResponse {
    match index().files.get(name) {
        Some(file) => {
            MessageResponse::FileDescriptorResponse(FileDescriptorResponse { file_descriptor_proto: vec![file.clone()] })
        }
        None => not_found(format!("file '{name}' is not known")),
    }
}

fn answer(request: ServerReflectionRequest) -> ServerReflectionResponse {
    let response = match request.message_request.clone() {
        Some(MessageRequest::FileByFilename(name)) => file(&name),
        Some(MessageRequest::FileContainingSymbol(symbol)) => match index().symbols.get(&symbol) {
            Some(name) => file(name),
            None => not_found(format!("symbol '{symbol}' is not known")),
        },
        Some(MessageRequest::ListServices(_)) => {
            let service = index().services.iter().map(|name| ServiceResponse { name: name.clone() }).collect();
            MessageResponse::ListServicesResponse(ListServiceResponse { service })
        }
        Some(MessageRequest::AllExtensionNumbersOfType(name)) => {
            MessageResponse::AllExtensionNumbersResponse(ExtensionNumberResponse {
                base_type_name: name,
                extension_number: vec![],
            })
        }
        Some(MessageRequest::FileContainingExtension(_)) | None => not_found("there are no extensions".to_owned()),
    };
    ServerReflectionResponse {
        valid_host: request.host.clone(),
        original_request: Some(request),
        message_response: Some(response),
    }
}

/// Serve one reflection stream.
pub async fn serve(shared: Arc<Shared>, head: Head, mut body: RecvStream, mut respond: SendResponse<Bytes>) {
    let encoding = match head.encoding() {
        Ok(encoding) => encoding,
        Err(error) => return respond::fail(&mut respond, &head, &error),
    };
    let Some(mut stream) = respond::begin(&mut respond, &head) else { return };
    let mut reader = MessageReader::new(encoding, shared.max_request_bytes);
    loop {
        loop {
            let response = match reader.next_message().and_then(|message| message.map(services::decode).transpose()) {
                Ok(Some(request)) => framed(&answer(request)),
                Ok(None) => break,
                Err(error) => return respond::end_with(&mut stream, &error),
            };
            if stream.send_data(response, false).is_err() {
                return;
            }
        }
        match poll_fn(|context| body.poll_data(context)).await {
            Some(Ok(chunk)) => {
                let _ = body.flow_control().release_capacity(chunk.len());
                reader.push(chunk);
            }
            Some(Err(_left)) => return,
            None if reader.is_partial() => {
                return respond::end_with(&mut stream, &Error::invalid("the stream ended in the middle of a message"));
            }
            None => return respond::end(&mut stream),
        }
    }
}
