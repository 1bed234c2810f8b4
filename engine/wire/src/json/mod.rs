//! JSON straight into and out of typed, little-endian buffers.
//!
//! No tree of values is made: a reader asks for what it expects at each place. Nothing recurses on input, and nothing is
//! read more than twice.
//!
//! * [`cursor`]: tokens, strings, members, and values that nobody wants.
//! * [`element`]: one value as one dtype.
//! * [`array`]: nested arrays of values, with their shape.
//! * [`write`]: strings and tensors as JSON text.

pub mod array;
pub mod cursor;
pub mod element;
pub mod write;
