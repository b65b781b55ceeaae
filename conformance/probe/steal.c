// A hook that takes what descriptors it can get from process 1, leaves them to a child that stays, and prints how many.
#define _GNU_SOURCE
#include <stdio.h>
#include <sys/syscall.h>
#include <unistd.h>

int main(void) {
    int taken = 0, init = syscall(SYS_pidfd_open, 1, 0);
    for (int fd = 0; fd < 64; fd++) {
        if (syscall(SYS_pidfd_getfd, init, fd, 0) >= 0) {
            taken++;
        }
    }
    FILE *out = fopen("/taken", "w");
    if (!out) {
        return 1;
    }
    fprintf(out, "%d\n", taken);
    fclose(out);
    if (fork() == 0) {
        setsid();
        close(0), close(1), close(2);
        sleep(20);
    }
    return 0;
}
