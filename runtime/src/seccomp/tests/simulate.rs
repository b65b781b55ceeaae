//! An interpreter of the part of classic BPF that the kernel lets filters use (kernel/seccomp.c, seccomp_check_filter).

use super::super::Instruction;
use super::Data;

/// What a program answers, and after how many instructions. Panics where the kernel would have refused the program.
pub(super) fn run(program: &[Instruction], data: &Data) -> (u32, usize) {
    let (mut accumulator, mut index) = (0u32, 0u32);
    let mut at = 0;
    for count in 1.. {
        let Instruction { code, jt, jf, k } = program[at];
        let jump = |condition: bool| 1 + usize::from(if condition { jt } else { jf });
        let mut step = 1;
        match code {
            0x20 => accumulator = load(data, k),
            0x00 => accumulator = k,
            0x01 => index = k,
            0x07 => index = accumulator,
            0x87 => accumulator = index,
            0x54 => accumulator &= k,
            0x44 => accumulator |= k,
            0x05 => step = 1 + k as usize,
            0x15 => step = jump(accumulator == k),
            0x25 => step = jump(accumulator > k),
            0x35 => step = jump(accumulator >= k),
            0x45 => step = jump(accumulator & k != 0),
            0x06 => return (k, count),
            _ => panic!("instruction {at}: code {code:#x}"),
        }
        at += step;
    }
    unreachable!()
}

fn load(data: &Data, offset: u32) -> u32 {
    let argument = |at: usize| data.arguments[at / 8];
    match offset {
        0 => data.number,
        4 => data.arch,
        16..64 if offset.is_multiple_of(8) => argument(offset as usize - 16) as u32,
        16..64 if offset % 8 == 4 => (argument(offset as usize - 16) >> 32) as u32,
        _ => panic!("load from {offset}"),
    }
}
