//! Prints the `OpenAPI` document: `cargo run -p bettong-wire --example openapi`.

fn main() {
    println!("{:#}", bettong_wire::openapi::document(env!("CARGO_PKG_VERSION")));
}
