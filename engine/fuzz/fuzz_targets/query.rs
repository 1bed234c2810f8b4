//! Queries that choose columns of a reply.

#![no_main]

use bettong_wire::dataset::Dataset;
use libfuzzer_sys::fuzz_target;

fuzz_target!(init: bettong_fuzz::seeds::write("query"), |query: &str| {
    if let Ok(dataset) = Dataset::from_query(query) {
        let _ = (dataset.keeps("out.y"), dataset.check(["time", "out.y"].into_iter()));
    }
});
