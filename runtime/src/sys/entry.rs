//! Where the program begins: C's main, since Rust's own start-up costs a dozen system calls and ignores SIGPIPE, which
//! would reach the container.

#[cfg(not(any(test, fuzzing)))]
#[unsafe(no_mangle)]
extern "C" fn main(argc: libc::c_int, argv: *const *const libc::c_char) -> libc::c_int {
    let count = usize::try_from(argc).unwrap_or(0);
    let mut args = Vec::with_capacity(count);
    for index in 0..count {
        // SAFETY: the kernel and the C start-up hand over argc valid strings that live as long as the process.
        args.push(unsafe { std::ffi::CStr::from_ptr(*argv.add(index)) });
    }
    crate::run(&args)
}
