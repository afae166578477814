/* Does in a container what an intruder would: `plant sleep|listen|memory|copy PATH|delete|connect ADDRESS PORT`. */

#define _GNU_SOURCE
#include <arpa/inet.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <unistd.h>

static void copy(int to) {
    int from = open("/proc/self/exe", O_RDONLY);
    while (sendfile(to, from, NULL, 1 << 20) > 0)
        ;
}

static void become(const char *path) {
    execl(path, path, "sleep", NULL);
    _exit(1);
}

int main(int count, char **words) {
    const char *act = count > 1 ? words[1] : "sleep";
    if (!strcmp(act, "memory")) {
        int file = memfd_create("planted", MFD_CLOEXEC);
        char *argv[] = {"planted", "sleep", NULL};
        copy(file);
        fexecve(file, argv, environ);
        return 1;
    }
    if (!strcmp(act, "copy") || !strcmp(act, "delete")) {
        int file = open(words[2], O_WRONLY | O_CREAT | O_TRUNC, 0755);
        copy(file);
        close(file);
        if (!strcmp(act, "copy"))
            become(words[2]);
        if (fork() == 0)
            become(words[2]);
        sleep(1);
        unlink(words[2]);
    }
    if (!strcmp(act, "listen") || !strcmp(act, "connect")) {
        int is_out = !strcmp(act, "connect"); /* by UDP, which stays connected whatever the network does */
        int end = socket(AF_INET, is_out ? SOCK_DGRAM : SOCK_STREAM, 0);
        struct sockaddr_in place = {.sin_family = AF_INET, .sin_port = htons(atoi(words[3]))};
        inet_pton(AF_INET, words[2], &place.sin_addr);
        if (is_out)
            connect(end, (struct sockaddr *)&place, sizeof place);
        else if (!bind(end, (struct sockaddr *)&place, sizeof place))
            listen(end, 1);
    }
    sleep(600);
    return 0;
}
