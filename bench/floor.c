/* floor: what the kernel itself takes to make and remove the container of `runc spec`, by the least system calls.
 *
 *   floor ROOTFS CGROUP [PROGRAM ARG...]   runs PROGRAM (/bin/true) in ROOTFS, in CGROUP, a path that does not exist
 *                                          yet below a cgroup v2 mount; exits as PROGRAM did, 125 if it could not run
 *   floor --nothing                        ends at once: the price of starting a static program
 *
 * The same container as config.json beside this file asks for: six new namespaces, seven mounts, six devices and their
 * links, a device program, masked and read-only paths, a read-only root, three capabilities, no_new_privs; and what
 * runc and crun do unasked: a session and a keyring of its own, the loopback up, no descriptor but 0, 1 and 2.
 * `bench/run --check` shows that it is the same.
 *
 * It is no runtime and must not become one: nothing is parsed, recorded, checked against a hostile root or rolled back.
 * Its time is the yardstick for runtimes that do all of that. Plain mount(2) is used on purpose: one call for what the
 * mount calls by descriptor need two to four for. ROOTFS must hold /proc, /dev and /sys.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/bpf.h>
#include <linux/capability.h>
#include <linux/keyctl.h>
#include <linux/sched.h>
#include <net/if.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <unistd.h>

#ifndef P_PIDFD
#define P_PIDFD 3
#endif

static const char *owned_cgroup; /* removed on failure; only the parent owns it */

static void fail(const char *what)
{
    dprintf(2, "floor: %s: %s\n", what, strerror(errno));
    if (owned_cgroup)
        rmdir(owned_cgroup);
    _exit(125);
}

static long must(long result, const char *what)
{
    if (result < 0)
        fail(what);
    return result;
}

/* ---- the device program: the six devices, ptmx and ptys may be used, every node may be made, all else is refused */

#define LOAD(reg, off)      { BPF_LDX | BPF_MEM | BPF_W, reg, BPF_REG_1, off, 0 }
#define COPY(dst, src)      { BPF_ALU64 | BPF_MOV | BPF_X, dst, src, 0, 0 }
#define SHIFT(reg, n)       { BPF_ALU64 | BPF_RSH | BPF_K, reg, 0, 0, n }
#define AND(reg, n)         { BPF_ALU64 | BPF_AND | BPF_K, reg, 0, 0, n }
#define SET(reg, n)         { BPF_ALU64 | BPF_MOV | BPF_K, reg, 0, 0, n }
#define IF_EQ(reg, n, skip) { BPF_JMP | BPF_JEQ | BPF_K, reg, 0, skip, n }
#define IF_NE(reg, n, skip) { BPF_JMP | BPF_JNE | BPF_K, reg, 0, skip, n }
#define EXIT                { BPF_JMP | BPF_EXIT, 0, 0, 0, 0 }

enum { ANSWER = BPF_REG_0, TYPE = BPF_REG_2, ACCESS = BPF_REG_3, MAJOR = BPF_REG_4, MINOR = BPF_REG_5 };

static const struct bpf_insn device_program[] = {
    LOAD(TYPE, offsetof(struct bpf_cgroup_dev_ctx, access_type)), /* access in the upper half, type in the lower */
    LOAD(MAJOR, offsetof(struct bpf_cgroup_dev_ctx, major)),
    LOAD(MINOR, offsetof(struct bpf_cgroup_dev_ctx, minor)),
    COPY(ACCESS, TYPE),
    SHIFT(ACCESS, 16),
    AND(TYPE, 0xffff),
    SET(ANSWER, 1),
    IF_EQ(ACCESS, BPF_DEVCG_ACC_MKNOD, 12),
    IF_NE(TYPE, BPF_DEVCG_DEV_CHAR, 10),
    IF_EQ(MAJOR, 136, 10), /* ptys */
    IF_NE(MAJOR, 5, 2),
    IF_EQ(MINOR, 0, 8), /* tty */
    IF_EQ(MINOR, 2, 7), /* ptmx */
    IF_NE(MAJOR, 1, 5),
    IF_EQ(MINOR, 3, 5), /* null */
    IF_EQ(MINOR, 5, 4), /* zero */
    IF_EQ(MINOR, 7, 3), /* full */
    IF_EQ(MINOR, 8, 2), /* random */
    IF_EQ(MINOR, 9, 1), /* urandom */
    SET(ANSWER, 0),
    EXIT,
};

/* Some kernels write past the end of a bpf_attr that is shorter than their own: hand them more than any knows. */
union roomy_attr {
    union bpf_attr attr;
    char room[512];
};

static void restrict_devices(int cgroup)
{
    union roomy_attr load = { 0 }, attach = { 0 };
    load.attr.prog_type = BPF_PROG_TYPE_CGROUP_DEVICE;
    load.attr.insns = (uintptr_t)device_program;
    load.attr.insn_cnt = sizeof device_program / sizeof *device_program;
    load.attr.license = (uintptr_t) "Apache-2.0";
    attach.attr.attach_bpf_fd = must(syscall(SYS_bpf, BPF_PROG_LOAD, &load, sizeof load.attr), "load device program");
    attach.attr.target_fd = cgroup;
    attach.attr.attach_type = BPF_CGROUP_DEVICE;
    attach.attr.attach_flags = BPF_F_ALLOW_MULTI;
    must(syscall(SYS_bpf, BPF_PROG_ATTACH, &attach, sizeof attach.attr), "attach device program");
}

/* ---- the child's root; all paths are relative to the current directory, which is the new root ---- */

static const struct {
    const char *source, *type, *target;
    unsigned long flags;
    const char *data;
    int make; /* the directory is not there yet: it lies in the new /dev */
} mounts[] = {
    { "proc", "proc", "proc", 0, NULL, 0 },
    { "tmpfs", "tmpfs", "dev", MS_NOSUID | MS_STRICTATIME, "mode=755,size=65536k", 0 },
    { "devpts", "devpts", "dev/pts", MS_NOSUID | MS_NOEXEC, "newinstance,ptmxmode=0666,mode=0620,gid=5", 1 },
    { "shm", "tmpfs", "dev/shm", MS_NOSUID | MS_NOEXEC | MS_NODEV, "mode=1777,size=65536k", 1 },
    { "mqueue", "mqueue", "dev/mqueue", MS_NOSUID | MS_NOEXEC | MS_NODEV, NULL, 1 },
    { "sysfs", "sysfs", "sys", MS_NOSUID | MS_NOEXEC | MS_NODEV | MS_RDONLY, NULL, 0 },
    { "cgroup", "cgroup2", "sys/fs/cgroup", MS_NOSUID | MS_NOEXEC | MS_NODEV | MS_RELATIME | MS_RDONLY, NULL, 0 },
};

static const struct {
    const char *path;
    int major, minor;
} devices[] = {
    { "dev/null", 1, 3 },   { "dev/zero", 1, 5 },    { "dev/full", 1, 7 },
    { "dev/random", 1, 8 }, { "dev/urandom", 1, 9 }, { "dev/tty", 5, 0 },
};

static const char *const links[][2] = {
    { "pts/ptmx", "dev/ptmx" },          { "/proc/self/fd", "dev/fd" },       { "/proc/self/fd/0", "dev/stdin" },
    { "/proc/self/fd/1", "dev/stdout" }, { "/proc/self/fd/2", "dev/stderr" },
};

static const char *const masked_dirs[] = { "proc/acpi", "proc/asound", "sys/firmware", "proc/scsi" };
static const char *const masked_files[] = { "proc/kcore",       "proc/keys",        "proc/latency_stats",
                                            "proc/timer_list", "proc/timer_stats", "proc/sched_debug" };
static const char *const read_only[] = { "proc/bus", "proc/fs", "proc/irq", "proc/sys", "proc/sysrq-trigger" };

#define EACH(i, array) for (size_t i = 0; i < sizeof array / sizeof *array; i++)

/* A mount on a path that this kernel may not have; 1 if it was there. */
static int mount_if_there(const char *source, const char *type, const char *target, unsigned long flags)
{
    if (mount(source, target, type, flags, NULL) == 0)
        return 1;
    if (errno != ENOENT)
        fail(target);
    return 0;
}

static void fill_dev(void)
{
    umask(0);
    EACH (i, devices)
        must(mknod(devices[i].path, S_IFCHR | 0666, makedev(devices[i].major, devices[i].minor)), devices[i].path);
    EACH (i, links)
        must(symlink(links[i][0], links[i][1]), links[i][1]);
    umask(022);
}

static void hide_paths(void)
{
    /* One empty file system for all directories: a bind of the first is cheaper than a second tmpfs. */
    const char *empty = NULL;
    EACH (i, masked_dirs) {
        const char *dir = masked_dirs[i];
        if (empty)
            mount_if_there(empty, NULL, dir, MS_BIND);
        else if (mount_if_there("tmpfs", "tmpfs", dir, MS_RDONLY))
            empty = dir;
    }
    EACH (i, masked_files)
        mount_if_there("dev/null", NULL, masked_files[i], MS_BIND);
    EACH (i, read_only)
        if (mount_if_there(read_only[i], NULL, read_only[i], MS_BIND | MS_REC))
            must(mount(NULL, read_only[i], NULL, MS_REMOUNT | MS_BIND | MS_RDONLY, NULL), read_only[i]);
}

static void build_root(const char *rootfs)
{
    must(mount(NULL, "/", NULL, MS_REC | MS_SLAVE, NULL), "mount propagation");
    must(mount(rootfs, rootfs, NULL, MS_BIND | MS_REC, NULL), rootfs);
    must(chdir(rootfs), rootfs);
    EACH (i, mounts) {
        if (mounts[i].make)
            must(mkdir(mounts[i].target, 0755), mounts[i].target);
        must(mount(mounts[i].source, mounts[i].target, mounts[i].type, mounts[i].flags, mounts[i].data),
             mounts[i].target);
    }
    fill_dev();
    /* The old root lies on top of the new one after this; the current directory stays the new root: no chdir("/"). */
    must(syscall(SYS_pivot_root, ".", "."), "pivot_root");
    must(umount2(".", MNT_DETACH), "detach the old root");
    must(mount(NULL, ".", NULL, MS_REMOUNT | MS_BIND | MS_RDONLY, NULL), "read-only root");
    hide_paths();
}

/* ---- the child's rights ---- */

static void raise_loopback(void)
{
    struct ifreq lo = { .ifr_name = "lo", .ifr_flags = IFF_UP };
    int s = must(socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0), "socket");
    must(ioctl(s, SIOCSIFFLAGS, &lo), "loopback up");
}

static void drop_rights(void)
{
    const uint32_t keep = 1 << CAP_AUDIT_WRITE | 1 << CAP_KILL | 1 << CAP_NET_BIND_SERVICE;
    struct __user_cap_header_struct header = { _LINUX_CAPABILITY_VERSION_3, 0 };
    struct __user_cap_data_struct sets[2] = { { .effective = keep, .permitted = keep } };
    struct rlimit files = { 1024, 1024 };

    must(setrlimit(RLIMIT_NOFILE, &files), "rlimit");
    must(syscall(SYS_setgroups, 0, NULL), "setgroups");
    /* One call for each capability: the kernel has no other way, and tells by EINVAL which is its last. */
    for (int cap = 0; cap < 64; cap++)
        if ((cap > 31 || !(keep & 1u << cap)) && prctl(PR_CAPBSET_DROP, cap, 0, 0, 0) < 0) {
            if (errno == EINVAL)
                break;
            fail("bounding set");
        }
    must(syscall(SYS_capset, &header, sets), "capset");
    must(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "no_new_privs");
}

static void become(const char *rootfs, char *const argv[])
{
    static char *const env[] = { "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "TERM=xterm",
                                 NULL };
    must(setsid(), "setsid");
    must(syscall(SYS_keyctl, KEYCTL_JOIN_SESSION_KEYRING, "floor"), "session keyring");
    must(sethostname("runc", 4), "hostname");
    raise_loopback();
    build_root(rootfs);
    must(syscall(SYS_close_range, 3, ~0U, 4 /* CLOSE_RANGE_CLOEXEC */), "close_range");
    drop_rights();
    execve(argv[0], argv, env);
    fail(argv[0]);
}

/* ---- the parent ---- */

int main(int argc, char *argv[])
{
    static char *const nothing_said[] = { "/bin/true", NULL };
    if (argc == 2 && !strcmp(argv[1], "--nothing"))
        return 0;
    if (argc < 3) {
        dprintf(2, "usage: floor ROOTFS CGROUP [PROGRAM ARG...] | --nothing\n");
        return 125;
    }
    const char *rootfs = argv[1], *path = argv[2];

    must(mkdir(path, 0755), path);
    owned_cgroup = path;
    /* Not open(): musl's makes a second call for O_CLOEXEC. */
    int cgroup = must(syscall(SYS_openat, AT_FDCWD, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC), path);
    restrict_devices(cgroup);

    int pidfd = -1;
    struct clone_args clone = {
        .flags = CLONE_NEWPID | CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS | CLONE_NEWNS | CLONE_NEWCGROUP |
                 CLONE_INTO_CGROUP | CLONE_PIDFD,
        .pidfd = (uintptr_t)&pidfd,
        .exit_signal = SIGCHLD,
        .cgroup = cgroup,
    };
    if (must(syscall(SYS_clone3, &clone, sizeof clone), "clone3") == 0) {
        owned_cgroup = NULL;
        become(rootfs, argc > 3 ? argv + 3 : nothing_said);
    }

    siginfo_t end;
    must(waitid(P_PIDFD, pidfd, &end, WEXITED), "waitid");
    /* Busy for a moment where the kernel lets go of a dead process only after it was waited for. */
    while (rmdir(path) < 0)
        if (errno != EBUSY)
            fail(path);
    return end.si_code == CLD_EXITED ? end.si_status : 128 + end.si_status;
}
