/* Loaded into a node before everything else: its syncs take as long as a file says, or fail.
 *
 * The file holds microseconds; "eio" makes every sync fail. No file, no fault. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int faulted(void) {
    char text[32] = {0};
    const char *path = getenv("SYNC_FAULT_FILE");
    int file = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    if (file < 0) return 0;
    ssize_t length = read(file, text, sizeof text - 1);
    close(file);
    if (length <= 0) return 0;
    if (strncmp(text, "eio", 3) == 0) {
        errno = EIO;
        return -1;
    }
    usleep((useconds_t)atol(text));
    return 0;
}

int fdatasync(int fd) {
    static int (*real)(int);
    if (!real) real = (int (*)(int))dlsym(RTLD_NEXT, "fdatasync");
    return faulted() ? -1 : real(fd);
}

int fsync(int fd) {
    static int (*real)(int);
    if (!real) real = (int (*)(int))dlsym(RTLD_NEXT, "fsync");
    return faulted() ? -1 : real(fd);
}
