/* A stand-in for libnvidia-ml.so.1. The file that $NVML_STUB names describes the host, one KEY VALUE a line, such as
 * `count 1`, `0.name H200`, `0:1.uuid MIG-…`. Without its line a thing is not supported; the value !15 is that error, and
 * ~FILE hangs while there is that file, then reads the description again. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

typedef unsigned int u32;
typedef unsigned long long u64;
typedef struct { u64 total, free, used; } memory_t;
typedef struct { u32 pid; u64 used; u32 gpu_instance, compute_instance; } process_t;
typedef struct { u32 gpu, memory; } rates_t;
typedef struct { u32 pid; u64 time; u32 sm, memory, encoder, decoder; } busy_t;
typedef struct { void *device; u64 type, code; u32 gpu_instance, compute_instance; } event_t;
enum { INVALID = 2, NOT_SUPPORTED = 3, NOT_FOUND = 6, INSUFFICIENT_SIZE = 7, TIMEOUT = 10 };

static char text[65536];
static char answer[512];

static void reread(void) {
    FILE *file = fopen(getenv("NVML_STUB"), "r");
    text[file ? fread(text, 1, sizeof text - 1, file) : 0] = 0;
    if (file) fclose(file);
}

/* The error for a key; 0 leaves its value in `answer`. */
static int look(const char *key) {
    size_t length = strlen(key);
    for (const char *line = text; line && *line; line = strchr(line, '\n'), line = line ? line + 1 : line) {
        if (strncmp(line, key, length) || line[length] != ' ') continue;
        snprintf(answer, sizeof answer, "%.*s", (int)strcspn(line + length + 1, "\n"), line + length + 1);
        if (answer[0] == '~') {
            while (!access(answer + 1, F_OK)) usleep(1000);
            return reread(), look(key);
        }
        return answer[0] == '!' ? atoi(answer + 1) : 0;
    }
    return NOT_SUPPORTED;
}

/* A handle is 1 + GPU, and 256 * (1 + slot) more for a MIG device: keys begin with GPU. or GPU:SLOT. */
static int of(const void *handle, const char *what) {
    char key[64];
    unsigned long number = (unsigned long)handle, gpu = number % 256 - 1, slot = number / 256;
    if (slot) snprintf(key, sizeof key, "%lu:%lu.%s", gpu, slot - 1, what);
    else snprintf(key, sizeof key, "%lu.%s", gpu, what);
    return look(key);
}

static int number(int error, u32 *out) { if (!error) *out = strtoul(answer, 0, 0); return error; }
static int words(int error, char *out, u32 size) { if (!error) snprintf(out, size, "%s", answer); return error; }

int nvmlInitWithFlags(u32 flags) {
    (void)flags;
    reread();
    int error = look("init");
    return error == NOT_SUPPORTED ? 0 : error;
}
int nvmlInit_v2(void) { return nvmlInitWithFlags(0); }
int nvmlShutdown(void) { return 0; }
const char *nvmlErrorString(int error) { return error == 15 ? "GPU is lost" : "another error"; }
int nvmlSystemGetDriverVersion(char *out, u32 size) { return words(look("driver"), out, size); }
int nvmlSystemGetCudaDriverVersion(int *out) { return number(look("cuda"), (u32 *)out); }
int nvmlDeviceGetCount_v2(u32 *out) { return number(look("count"), out); }
int nvmlDeviceGetHandleByIndex_v2(u32 index, void **out) {
    *out = (void *)(unsigned long)(index + 1);
    int error = of(*out, "handle");
    return error == NOT_SUPPORTED ? 0 : error;
}
int nvmlDeviceGetName(void *device, char *out, u32 size) { return words(of(device, "name"), out, size); }
int nvmlDeviceGetUUID(void *device, char *out, u32 size) { return words(of(device, "uuid"), out, size); }
int nvmlDeviceGetMemoryInfo(void *device, memory_t *out) { /* TOTAL FREE */
    int error = of(device, "memory");
    if (!error && sscanf(answer, "%llu %llu", &out->total, &out->free) != 2) error = INVALID;
    return error;
}
int nvmlDeviceGetCudaComputeCapability(void *device, int *major, int *minor) {
    int error = of(device, "capability");
    return error ? error : sscanf(answer, "%d.%d", major, minor) == 2 ? 0 : INVALID;
}
int nvmlDeviceGetMigMode(void *device, u32 *now, u32 *later) {
    int error = number(of(device, "mig"), now);
    *later = *now;
    return error;
}
int nvmlDeviceGetMaxMigDeviceCount(void *device, u32 *out) { (void)device; *out = 7; return 0; }
int nvmlDeviceGetMigDeviceHandleByIndex(void *device, u32 slot, void **out) {
    *out = (void *)((unsigned long)device + 256ul * (slot + 1));
    int error = of(*out, "uuid");
    return error == NOT_SUPPORTED ? NOT_FOUND : error;
}
int nvmlDeviceGetEccMode(void *device, u32 *now, u32 *later) { return *later = 0, number(of(device, "ecc"), now); }
int nvmlDeviceGetTotalEccErrors(void *device, int type, int counter, u64 *out) {
    u32 count = 0;
    int error = number(of(device, type == 1 && counter == 0 ? "ecc-errors" : "other-errors"), &count);
    return *out = count, error;
}
int nvmlDeviceGetTemperature(void *device, int sensor, u32 *out) {
    return number(of(device, sensor ? "other-sensor" : "temperature"), out);
}
int nvmlDeviceGetComputeMode(void *device, u32 *out) { return number(of(device, "compute-mode"), out); }
int nvmlDeviceGetPowerUsage(void *device, u32 *out) { return number(of(device, "milliwatts"), out); }
int nvmlDeviceGetCurrentClocksEventReasons(void *device, u64 *out) {
    u32 bits = 0;
    int error = number(of(device, "reasons"), &bits);
    return *out = bits, error;
}
static int processes(int error, u32 *count, process_t *out) { /* PID BYTES PID BYTES …; -1 bytes: not available */
    u32 room = *count, found = 0;
    if (error) return error;
    for (char *word = strtok(answer, " "); word; word = strtok(0, " "), found++) {
        char *bytes = strtok(0, " ");
        if (found < room) out[found] = (process_t){atoi(word), strtoull(bytes, 0, 0), 0, 0};
    }
    *count = found;
    return found > room ? INSUFFICIENT_SIZE : 0;
}
int nvmlDeviceGetComputeRunningProcesses_v3(void *device, u32 *count, process_t *out) {
    return processes(of(device, "processes"), count, out);
}
int nvmlDeviceGetGraphicsRunningProcesses_v3(void *device, u32 *count, process_t *out) {
    return processes(of(device, "graphics"), count, out);
}
/* GPU.xid CODE: an event of GPUs that have such a line; the description is read again, so that a host may change. */
static u32 told[8];
int nvmlEventSetCreate(void **set) { *set = told; return 0; }
int nvmlDeviceRegisterEvents(void *device, u64 types, void *set) {
    (void)set;
    return number(of(device, "xid"), &told[(unsigned long)device - 1]) ? NOT_SUPPORTED : types == 8 ? 0 : INVALID;
}
int nvmlEventSetWait_v2(void *set, event_t *out, u32 milliseconds) {
    (void)set, (void)milliseconds;
    reread();
    for (unsigned long gpu = 0; gpu < 8; gpu++) {
        u32 code = 0;
        void *device = (void *)(gpu + 1);
        if (number(of(device, "xid"), &code) || code == told[gpu]) continue;
        *out = (event_t){device, 8, told[gpu] = code, 0, 0};
        return 0;
    }
    return TIMEOUT;
}
int nvmlDeviceGetUtilizationRates(void *device, rates_t *out) { return number(of(device, "busy"), &out->gpu); }
int nvmlDeviceGetProcessUtilization(void *device, busy_t *out, u32 *count, u64 since) { /* TIME PID SM PID SM … */
    u32 room = out ? *count : 0, found = 0;
    int error = of(device, "process-busy");
    if (error) return error;
    u64 time = strtoull(strtok(answer, " "), 0, 0);
    if (time <= since) return NOT_FOUND;
    for (char *word = strtok(0, " "); word; word = strtok(0, " "), found++) {
        char *sm = strtok(0, " ");
        if (found < room) out[found] = (busy_t){atoi(word), time, atoi(sm), 0, 0, 0};
    }
    *count = found;
    return found > room ? INSUFFICIENT_SIZE : 0;
}
