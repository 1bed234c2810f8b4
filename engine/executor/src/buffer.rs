//! Memory for joined inputs: reused, and aligned for every element type.

/// Bytes that start on a 16-byte boundary.
#[derive(Default)]
pub struct AlignedBuffer {
    words: Vec<u128>,
    len: usize,
}

impl AlignedBuffer {
    /// Forget the content; keep the memory.
    pub fn clear(&mut self) {
        self.len = 0;
    }

    /// Append *bytes*.
    pub fn extend(&mut self, bytes: &[u8]) {
        let end = self.len + bytes.len();
        if end > self.words.len() * size_of::<u128>() {
            self.words.resize(end.div_ceil(size_of::<u128>()).next_power_of_two(), 0);
        }
        // SAFETY: the words are initialised and hold at least `end` bytes; every byte pattern is a valid word.
        let all =
            unsafe { std::slice::from_raw_parts_mut(self.words.as_mut_ptr().cast::<u8>(), self.words.len() * size_of::<u128>()) };
        all[self.len..end].copy_from_slice(bytes);
        self.len = end;
    }

    /// What was appended.
    pub fn bytes(&self) -> &[u8] {
        // SAFETY: the words are initialised and hold at least `len` bytes.
        unsafe { std::slice::from_raw_parts(self.words.as_ptr().cast::<u8>(), self.len) }
    }

    /// Give memory beyond *bytes* back, so that one large request does not stay resident.
    pub fn shrink(&mut self, bytes: usize) {
        if self.words.len() * size_of::<u128>() > bytes {
            self.words = Vec::new();
            self.len = 0;
        }
    }
}

/// Whether *bytes* may be read as elements of *size* bytes where they lie.
#[inline]
pub fn is_aligned(bytes: &[u8], size: usize) -> bool {
    (bytes.as_ptr() as usize).is_multiple_of(size)
}
