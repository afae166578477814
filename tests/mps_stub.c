/* A stand-in for nvidia-cuda-mps-control, and by its other name, cuda-program, for what a CUDA program does with it:
 * a socket in $CUDA_MPS_PIPE_DIRECTORY, commands a line, and clients of one user at a time (SO_PEERCRED). */
#define _GNU_SOURCE
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

static const char *folder(const char *name, const char *otherwise) {
    const char *set = getenv(name);
    return set && *set ? set : otherwise;
}

static struct sockaddr_un address(void) {
    struct sockaddr_un to = {.sun_family = AF_UNIX};
    const char *pipe = folder("CUDA_MPS_PIPE_DIRECTORY", "/tmp/nvidia-mps");
    if (snprintf(to.sun_path, sizeof to.sun_path, "%s/control", pipe) >= (int)sizeof to.sun_path) exit(2);
    return to;
}

static int reach(void) {
    struct sockaddr_un to = address();
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    return connect(fd, (struct sockaddr *)&to, sizeof to) ? -1 : fd;
}

static void note(const char *format, unsigned number) {
    char path[256];
    snprintf(path, sizeof path, "%s/control.log", folder("CUDA_MPS_LOG_DIRECTORY", "/var/log/nvidia-mps"));
    FILE *log = fopen(path, "a");
    if (!log) exit(3);
    fprintf(log, format, number);
    fclose(log);
}

static int clients;       /* connected programs of the server */
static unsigned user;     /* whose server it is */
static char percentage[32] = "100.0";

static void answer(int fd, char *line) {
    if (!strcmp(line, "get_default_active_thread_percentage")) dprintf(fd, "%s\n", percentage);
    else if (!strncmp(line, "set_default_active_thread_percentage ", 37))
        snprintf(percentage, sizeof percentage, "%.1f", atof(line + 37)), dprintf(fd, "%s\n", percentage);
    else if (!strcmp(line, "get_server_list")) { if (clients) dprintf(fd, "%u\n", user + 1); }
    else if (!strcmp(line, "quit")) { note("Exit\n", 0); exit(0); }
    else dprintf(fd, "Invalid command\n");
}

static void serve_line(int fd, char *line, int *is_client) {
    struct ucred peer;
    socklen_t size = sizeof peer;
    if (strcmp(line, "NEW CLIENT")) { answer(fd, line); return; }
    getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &size);
    if (clients && peer.uid != user) { /* the real one answers when the other user's programs have ended */
        note("User %u waits until the server has ended\n", peer.uid);
        dprintf(fd, "WAIT\n");
        return;
    }
    if (!clients) note("Starting new server for user %u\n", peer.uid);
    user = peer.uid;
    clients += !*is_client;
    *is_client = 1;
    dprintf(fd, "SERVER %u\n", user);
}

static int control(void) {
    struct sockaddr_un to = address();
    char path[256];
    if (mkdir(folder("CUDA_MPS_PIPE_DIRECTORY", "/tmp/nvidia-mps"), 0755) && errno != EEXIST) return 1;
    if (reach() >= 0) { printf("An instance of this daemon is already running\n"); return 1; }
    unlink(to.sun_path);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    umask(0);
    if (bind(fd, (struct sockaddr *)&to, sizeof to) || listen(fd, 16)) { perror("bind"); return 1; }
    snprintf(path, sizeof path, "%s/nvidia-cuda-mps-control.pid", folder("CUDA_MPS_PIPE_DIRECTORY", "/tmp/nvidia-mps"));
    FILE *pid = fopen(path, "w");
    fprintf(pid, "%d\n", getpid());
    fclose(pid);
    note("Start\n", 0);
    int sockets[64] = {0}, is_client[64] = {0};
    for (;;) {
        fd_set ready;
        FD_ZERO(&ready);
        FD_SET(fd, &ready);
        int most = fd;
        for (int i = 0; i < 64; i++) if (sockets[i]) { FD_SET(sockets[i], &ready); if (sockets[i] > most) most = sockets[i]; }
        if (select(most + 1, &ready, 0, 0, 0) < 0) continue;
        if (FD_ISSET(fd, &ready)) {
            int new = accept4(fd, 0, 0, SOCK_CLOEXEC), i = 0;
            while (i < 64 && sockets[i]) i++;
            if (i < 64) { sockets[i] = new; is_client[i] = 0; } else close(new);
        }
        for (int i = 0; i < 64; i++) {
            char text[512];
            if (!sockets[i] || !FD_ISSET(sockets[i], &ready)) continue;
            ssize_t got = recv(sockets[i], text, sizeof text - 1, 0);
            if (got <= 0) { clients -= is_client[i]; close(sockets[i]); sockets[i] = 0; continue; }
            text[got] = 0;
            for (char *line = strtok(text, "\n"); line; line = strtok(0, "\n")) serve_line(sockets[i], line, &is_client[i]);
        }
    }
}

static int ask(void) { /* the front end: commands from standard input */
    char line[512], reply[512];
    int fd = reach();
    if (fd < 0) { printf("Cannot find MPS control daemon process\n"); return 1; }
    while (fgets(line, sizeof line, stdin)) {
        dprintf(fd, "%s", line);
        if (!strncmp(line, "get_server_list", 15)) continue; /* may answer nothing */
        ssize_t got = recv(fd, reply, sizeof reply, 0);
        if (got <= 0) break;
        fwrite(reply, 1, got, stdout);
    }
    shutdown(fd, SHUT_WR);
    for (ssize_t got; (got = recv(fd, reply, sizeof reply, 0)) > 0;) fwrite(reply, 1, got, stdout);
    return 0;
}

static void end(int number) { _exit(128 + number); }

static int program(void) { /* joins the daemon as libcuda does, says so, and stays */
    char reply[64] = "";
    signal(SIGTERM, end); /* process 1 has no default */
    int fd = reach();
    if (fd < 0) { printf("no MPS\n"); fflush(stdout); }
    else {
        dprintf(fd, "NEW CLIENT\n");
        if (recv(fd, reply, sizeof reply - 1, 0) <= 0) return 1;
        printf("%s", reply);
        fflush(stdout);
    }
    FILE *shared = fopen("/dev/shm/cuda", "a"); /* where MPS keeps what clients and server share */
    if (!shared) { perror("/dev/shm"); return 1; }
    fclose(shared);
    for (;;) pause();
}

int main(int count, char **words) {
    const char *name = strrchr(words[0], '/') ? strrchr(words[0], '/') + 1 : words[0];
    signal(SIGPIPE, SIG_IGN);
    if (!strcmp(name, "cuda-program")) return program();
    if (count > 1 && !strcmp(words[1], "-d")) { if (daemon(0, 0)) return 1; return control(); }
    return count > 1 && !strcmp(words[1], "-f") ? control() : ask();
}
