//! The program of a sandbox: it waits for ever, so that the pod's namespaces live as long as the pod
//! and not as long as one of its containers. Its image is made here, of a few machine instructions,
//! so that no registry and no compiler is needed.
//!
//! In C: `signal(SIGCHLD, SIG_IGN); for (;;) pause();`. Where the pod's containers share their
//! processes this one is their init: with SIGCHLD ignored the kernel itself buries orphans.

/// The name of the image in the engine's store; the tag changes when the program does.
pub const IMAGE: &str = "windlass.dev/pause:1";
/// Its path in the image.
pub const PATH: &str = "/pause";
/// What the kernel calls its process.
pub const NAME: &str = "pause";

/// Where the program is in memory.
const BASE: u64 = 0x40_0000;
/// Sizes of ELF's file header and of a program header.
const HEADERS: u64 = 64 + 56;
/// `struct sigaction` of the kernel: handler SIG_IGN, no flags, no restorer, no mask.
const IGNORE: [u64; 4] = [1, 0, 0, 0];

/// x86-64.
const AMD64: &[u8] = &[
    0xb8, 0x0d, 0x00, 0x00, 0x00, // mov eax, 13       rt_sigaction
    0xbf, 0x11, 0x00, 0x00, 0x00, // mov edi, 17       SIGCHLD
    0x48, 0x8d, 0x35, 0x17, 0x00, 0x00, 0x00, // lea rsi, [rip+23]  IGNORE
    0x31, 0xd2, // xor edx, edx
    0x41, 0xba, 0x08, 0x00, 0x00, 0x00, // mov r10d, 8       bytes of a signal mask
    0x0f, 0x05, // syscall
    0xb8, 0x22, 0x00, 0x00, 0x00, // mov eax, 34       pause
    0x0f, 0x05, // syscall
    0xeb, 0xf7, // jmp to mov eax, 34
    0x90, 0x90, 0x90, 0x90, // nop, so that IGNORE is aligned
];

/// AArch64, one instruction a word.
const ARM64: &[u32] = &[
    0xd280_10c8, // mov x8, #134      rt_sigaction
    0xd280_0220, // mov x0, #17       SIGCHLD
    0x1000_0181, // adr x1, #48       IGNORE
    0xd280_0002, // mov x2, #0
    0xd280_0103, // mov x3, #8        bytes of a signal mask
    0xd400_0001, // svc #0
    0xd280_0000, // mov x0, #0
    0xd280_0001, // mov x1, #0
    0xd280_0002, // mov x2, #0
    0xd280_0003, // mov x3, #0
    0xd280_0004, // mov x4, #0
    0xd280_0928, // mov x8, #73       ppoll
    0xd400_0001, // svc #0
    0x17ff_fff9, // b to the first mov x0, #0
];

/// The program as an ELF file for one of Docker's architectures; None where there is none for it.
pub fn elf(architecture: &str) -> Option<Vec<u8>> {
    let (machine, mut code): (u16, Vec<u8>) = match architecture {
        "amd64" => (62, AMD64.to_vec()),
        "arm64" => (183, ARM64.iter().flat_map(|word| word.to_le_bytes()).collect()),
        _ => return None,
    };
    code.extend(IGNORE.iter().flat_map(|word| word.to_le_bytes()));
    let size = HEADERS + code.len() as u64;
    // ELF, 64 bits, little endian, version 1, System V.
    let mut file = vec![0x7f, b'E', b'L', b'F', 2, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let mut put = |bytes: &[u8]| file.extend_from_slice(bytes);
    put(&2u16.to_le_bytes()); // an executable
    put(&machine.to_le_bytes());
    put(&1u32.to_le_bytes());
    put(&(BASE + HEADERS).to_le_bytes()); // entry
    put(&64u64.to_le_bytes()); // program headers
    put(&0u64.to_le_bytes()); // no section headers
    put(&0u32.to_le_bytes());
    for half in [64u16, 56, 1, 0, 0, 0] {
        put(&half.to_le_bytes());
    }
    put(&1u32.to_le_bytes()); // to be loaded
    put(&5u32.to_le_bytes()); // readable and executable
    for word in [0, BASE, BASE, size, size, 0x1000] {
        put(&word.to_le_bytes());
    }
    file.extend_from_slice(&code);
    Some(file)
}

/// The image's files as a tar archive.
pub fn archive(architecture: &str) -> Option<std::io::Result<Vec<u8>>> {
    let program = elf(architecture)?;
    let pack = || {
        let mut header = tar::Header::new_ustar();
        header.set_size(program.len() as u64);
        header.set_mode(0o755);
        header.set_mtime(0);
        let mut tar = tar::Builder::new(Vec::new());
        tar.append_data(&mut header, PATH.trim_start_matches('/'), program.as_slice())?;
        tar.into_inner()
    };
    Some(pack())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_program_is_whole() {
        for (architecture, machine) in [("amd64", 62), ("arm64", 183)] {
            let file = elf(architecture).expect(architecture);
            assert_eq!(&file[..4], b"\x7fELF");
            assert_eq!(file[18], machine);
            // What both refer to is the last thing in the file, and aligned.
            let at = file.len() - 32;
            assert_eq!((at % 8, file[at]), (0, 1), "{architecture}");
        }
        // The displacement is counted from the end of its instruction.
        let (lea_ends, ignore) = (17, AMD64.len());
        assert_eq!(ignore - lea_ends, usize::from(AMD64[13]));
        assert_eq!(elf("riscv64"), None);
    }

    #[cfg(target_arch = "x86_64")]
    #[test]
    fn the_program_runs_until_it_is_killed() {
        use std::{io::Write, os::unix::fs::OpenOptionsExt, process::Command};
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join("pause");
        let mut options = std::fs::OpenOptions::new();
        let mut file = options.create(true).write(true).mode(0o755).open(&path).expect("file");
        file.write_all(&elf("amd64").expect("program")).expect("written");
        drop(file);
        let mut child = Command::new(&path).spawn().expect("it starts");
        let asleep = || {
            let stat = std::fs::read_to_string(format!("/proc/{}/stat", child.id()));
            stat.is_ok_and(|text| text.contains(") S "))
        };
        while !asleep() {
            std::thread::yield_now();
        }
        assert!(child.try_wait().expect("asked").is_none());
        child.kill().expect("killed");
        assert_eq!(child.wait().expect("ended").code(), None);
    }
}
