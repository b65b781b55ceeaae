/* peak: the peak resident memory of every process that a command makes.
 *
 *   peak FILE COMMAND ARG...   runs COMMAND, writes "KIB NAME" to FILE for each process at its exit and before each of
 *                              its execve, and exits as COMMAND did
 *
 * It follows COMMAND by ptrace and reads VmHWM from /proc at these moments. wait4(2)'s ru_maxrss would be simpler, but
 * says nothing useful of small programs: the kernel counts pages per CPU and adds them up rarely, so that half a
 * megabyte can be missing; it takes in processes that are not meant, such as the program in a container; and it begins
 * with the peak of the parent. It slows COMMAND down: not for measuring time.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <linux/ptrace.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

static int out;

static long trace(int request, pid_t pid, unsigned long address, const void *data)
{
    return syscall(SYS_ptrace, request, pid, address, data);
}

static void write_peak(pid_t pid)
{
    char path[64], status[4096], name[64] = "?";
    snprintf(path, sizeof path, "/proc/%d/status", pid);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t size = fd < 0 ? -1 : read(fd, status, sizeof status - 1);
    if (fd >= 0)
        close(fd);
    if (size <= 0)
        return;
    status[size] = 0;
    sscanf(status, "Name: %63s", name);
    char *peak = strstr(status, "VmHWM:");
    if (peak)
        dprintf(out, "%ld %s\n", atol(peak + strlen("VmHWM:")), name);
}

static int before_execve(pid_t pid)
{
    struct ptrace_syscall_info info;
    return trace(PTRACE_GET_SYSCALL_INFO, pid, sizeof info, &info) > 0 && info.op == PTRACE_SYSCALL_INFO_ENTRY &&
           (info.entry.nr == SYS_execve || info.entry.nr == SYS_execveat);
}

/* One stop of a process: writes its peak if this is the moment for it. The signal to pass on when it goes on. */
static int stopped(pid_t pid, int status)
{
    int signal = WSTOPSIG(status), event = status >> 16;
    if (event == PTRACE_EVENT_EXIT || (signal == (SIGTRAP | 0x80) && before_execve(pid)))
        write_peak(pid);
    return event || signal == (SIGTRAP | 0x80) ? 0 : signal;
}

static int follow(pid_t command)
{
    int status, result = 125;
    pid_t pid;
    while ((pid = waitpid(-1, &status, __WALL)) > 0) {
        if (WIFSTOPPED(status))
            trace(PTRACE_SYSCALL, pid, 0, (void *)(long)stopped(pid, status));
        else if (pid == command)
            result = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
    }
    return result;
}

int main(int argc, char *argv[])
{
    int seized[2];
    if (argc < 3 || (out = open(argv[1], O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644)) < 0 ||
        pipe2(seized, O_CLOEXEC)) {
        dprintf(2, "usage: peak FILE COMMAND ARG...\n");
        return 125;
    }
    pid_t command = fork();
    if (command == 0) {
        char byte;
        if (read(seized[0], &byte, 1) == 1)
            execv(argv[2], argv + 2);
        _exit(125);
    }
    long options = PTRACE_O_TRACESYSGOOD | PTRACE_O_TRACEFORK | PTRACE_O_TRACEVFORK | PTRACE_O_TRACECLONE |
                   PTRACE_O_TRACEEXIT | PTRACE_O_EXITKILL;
    if (command < 0 || trace(PTRACE_SEIZE, command, 0, (void *)options) || trace(PTRACE_INTERRUPT, command, 0, NULL) ||
        write(seized[1], "", 1) != 1) {
        dprintf(2, "peak: cannot follow %s\n", argv[2]);
        return 125;
    }
    return follow(command);
}
