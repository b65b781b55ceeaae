// A program whose first thread ends at once, while another one goes on.
#define _GNU_SOURCE
#include <pthread.h>
#include <unistd.h>

static void *go_on(void *unused) {
    for (;;) {
        usleep(100000);
    }
    return unused;
}

int main(void) {
    pthread_t other;
    if (pthread_create(&other, NULL, go_on, NULL)) {
        return 1;
    }
    pthread_exit(NULL);
}
