//! The allocator: the first quarter megabyte is handed out from a fixed arena and never taken back, what comes after
//! goes to malloc.
//!
//! A command that ends at once, which is most of them, never pays for malloc's set-up and system calls; one that stays
//! cannot grow by more than the arena. Pages of the arena that are not touched cost nothing. The arena knows nothing of
//! threads: a command that starts some closes it first.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::{Cell, UnsafeCell};

const SIZE: usize = 256 * 1024;

struct Arena {
    bytes: UnsafeCell<[u8; SIZE]>,
    used: Cell<usize>,
    /// Never written to again once there may be threads.
    closed: Cell<bool>,
}

// SAFETY: until the arena is closed there is one thread, so no two calls overlap: only the store starts threads
// (conformance/settings/rules checks that nothing else does), and the commands that use it close the arena before. A
// closed arena is never changed: `used` and `closed` are only read from then on, and starting a thread orders the write
// that closed it before all reads of the thread. Bytes of the blocks belong to who allocated them.
unsafe impl Sync for Arena {}

#[cfg(not(any(test, fuzzing)))]
#[global_allocator]
static ARENA: Arena = Arena::new();

/// To be called before a thread is started: from now on all memory is malloc's, and what the arena has handed out stays
/// as it is.
pub(crate) fn allow_threads() {
    #[cfg(not(any(test, fuzzing)))]
    ARENA.close();
}

impl Arena {
    #[cfg_attr(fuzzing, allow(dead_code))]
    const fn new() -> Arena {
        Arena { bytes: UnsafeCell::new([0; SIZE]), used: Cell::new(0), closed: Cell::new(false) }
    }

    #[cfg_attr(fuzzing, allow(dead_code))]
    fn close(&self) {
        self.closed.set(true);
    }

    fn start(&self) -> usize {
        self.bytes.get() as usize
    }

    fn holds(&self, block: *mut u8) -> bool {
        (block as usize).wrapping_sub(self.start()) < SIZE
    }
}

// SAFETY: blocks of the arena are aligned, inside it and disjoint, since `used` only grows but for the newest block,
// which may be resized in place or given back; all others come from and go to the system allocator.
unsafe impl GlobalAlloc for Arena {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if self.closed.get() {
            // SAFETY: the caller's promise is passed on.
            return unsafe { System.alloc(layout) };
        }
        let first_free = self.start() + self.used.get();
        let start = first_free.next_multiple_of(layout.align()) - self.start();
        match start.checked_add(layout.size()) {
            Some(end) if end <= SIZE => {
                self.used.set(end);
                // SAFETY: start..end lies inside the arena.
                unsafe { self.bytes.get().cast::<u8>().add(start) }
            }
            // SAFETY: the caller's promise is passed on.
            _ => unsafe { System.alloc(layout) },
        }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        if !self.holds(block) {
            // SAFETY: the block is not the arena's, so the system allocator made it.
            return unsafe { System.dealloc(block, layout) };
        }
        let start = block as usize - self.start();
        if !self.closed.get() && start + layout.size() == self.used.get() {
            self.used.set(start);
        }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        if !self.holds(block) {
            // SAFETY: the block is not the arena's, so the system allocator made it.
            return unsafe { System.realloc(block, layout, new_size) };
        }
        let start = block as usize - self.start();
        let newest = !self.closed.get() && start + layout.size() == self.used.get();
        if newest && start.checked_add(new_size).is_some_and(|end| end <= SIZE) {
            self.used.set(start + new_size);
            return block;
        }
        // SAFETY: the alignment is the block's own, and the size is the caller's.
        let new = unsafe { self.alloc(Layout::from_size_align_unchecked(new_size, layout.align())) };
        if !new.is_null() {
            // SAFETY: both blocks are valid for the smaller of the sizes and do not overlap.
            unsafe { std::ptr::copy_nonoverlapping(block, new, layout.size().min(new_size)) };
        }
        new
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_block_grows_in_place_and_the_rest_goes_to_malloc() {
        let arena = Box::new(Arena::new());
        let small = Layout::from_size_align(100, 8).unwrap();
        // SAFETY: layouts are not empty, and each block is given back with the layout it was made with.
        unsafe {
            let a = arena.alloc(small);
            let a2 = arena.realloc(a, small, 1000);
            assert_eq!(a, a2);
            a2.write_bytes(7, 1000);
            let b = arena.alloc(Layout::from_size_align(1, 64).unwrap());
            assert_eq!(b as usize % 64, 0);
            let a3 = arena.realloc(a2, Layout::from_size_align(1000, 8).unwrap(), 2000);
            assert_ne!(a3, a2);
            assert_eq!(*a3.add(999), 7);
            let big = Layout::from_size_align(SIZE, 8).unwrap();
            let c = arena.alloc(big);
            assert!(!arena.holds(c));
            arena.dealloc(c, big);
        }
    }
    #[test]
    fn a_closed_arena_is_not_changed_by_any_thread() {
        let arena: &'static Arena = Box::leak(Box::new(Arena::new()));
        let small = Layout::from_size_align(100, 8).unwrap();
        // SAFETY: layouts are not empty, and each block is given back with the layout it was made with, by one thread.
        unsafe {
            let old = arena.alloc(small);
            let newest = arena.alloc(small);
            newest.write_bytes(7, 100);
            let used = arena.used.get();
            arena.close();
            let threads: Vec<_> = (0..4)
                .map(|_| {
                    std::thread::spawn(move || {
                        for _ in 0..1000 {
                            let block = arena.alloc(small);
                            assert!(!arena.holds(block));
                            let block = arena.realloc(block, small, 200);
                            arena.dealloc(block, Layout::from_size_align(200, 8).unwrap());
                        }
                    })
                })
                .collect();
            // The last block of the arena could grow, and be given back, before.
            let moved = arena.realloc(newest, small, 200);
            assert!(!arena.holds(moved));
            assert_eq!(*moved.add(99), 7);
            arena.dealloc(moved, Layout::from_size_align(200, 8).unwrap());
            arena.dealloc(old, small);
            threads.into_iter().for_each(|thread| thread.join().unwrap());
            assert_eq!(arena.used.get(), used);
        }
    }
}
