//! The `OpenAPI` document of the HTTP API on the data port.
//!
//! * `routes`: paths and their operations.
//! * `schemas`: bodies.

mod routes;
mod schemas;

use serde_json::{Value, json};

/// The document, for a server of *version*.
pub fn document(version: &str) -> Value {
    json!({
        "openapi": "3.1.0",
        "jsonSchemaDialect": "https://json-schema.org/draft/2020-12/schema",
        "info": {
            "title": "Bettong data port",
            "version": version,
            "summary": "Infer with deployed pipelines, by the Open Inference Protocol or by frames.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "tags": [
            {"name": "protocol", "description": "Open Inference Protocol, with Triton's extensions. A deployed pipeline is a model of the same name; its version is the pipeline's."},
            {"name": "frames", "description": "Pipelines over whole frames: JSON records and Arrow IPC."},
            {"name": "server", "description": "Health and addresses."},
        ],
        "paths": routes::paths(),
        "components": {
            "schemas": schemas::schemas(),
            "responses": routes::responses(),
            "parameters": routes::parameters(),
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Call *visit* with each reference in *value*.
    fn references(value: &Value, visit: &mut impl FnMut(&str)) {
        match value {
            Value::Object(members) => {
                for (name, value) in members {
                    match value {
                        Value::String(target) if name == "$ref" => visit(target),
                        _ => references(value, visit),
                    }
                }
            }
            Value::Array(values) => values.iter().for_each(|value| references(value, visit)),
            _ => {}
        }
    }

    #[test]
    fn every_reference_leads_somewhere_and_every_component_is_used() {
        let document = document("1.2.3");
        let mut used = std::collections::BTreeSet::new();
        references(&document, &mut |target| {
            assert!(document.pointer(target.trim_start_matches('#')).is_some(), "{target}");
            used.insert(target.to_owned());
        });
        for kind in ["schemas", "responses", "parameters"] {
            for name in document["components"][kind].as_object().unwrap().keys() {
                assert!(used.contains(&format!("#/components/{kind}/{name}")), "{kind}/{name} is of no use");
            }
        }
    }

    #[test]
    fn every_operation_has_an_id_of_its_own_and_every_path_parameter_is_declared() {
        let document = document("1.2.3");
        let mut ids = std::collections::BTreeSet::new();
        for (path, item) in document["paths"].as_object().unwrap() {
            for (method, operation) in item.as_object().unwrap() {
                assert!(ids.insert(operation["operationId"].as_str().unwrap()), "{method} {path}");
                let declared = operation["parameters"].as_array().map_or(0, |parameters| {
                    parameters
                        .iter()
                        .filter(|parameter| parameter["$ref"].as_str().is_some_and(|target| target.contains("/path_")))
                        .count()
                });
                assert_eq!(path.matches('{').count(), declared, "{method} {path}");
                assert!(operation["responses"].as_object().unwrap().contains_key("405"), "{method} {path}");
            }
        }
    }
}
