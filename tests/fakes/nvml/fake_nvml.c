/* A stand-in for libnvidia-ml.so.1 that tells what a text table says. It shares names and struct layouts with NVML, nothing else.

   FAKE_NVML_TABLE names the table; it is read anew with every call, so that a test changes it while a program runs.
   One fact per line, words by blanks:

     driver 580.65.06        cuda 13000          init 9 (error of nvmlInit)      count 7 (fewer listed than below)
     slow nvmlDeviceGetCount_v2 30 (milliseconds) missing nvmlDeviceGetNumaNodeId (answers "function not found")
     gpu index=0 uuid=GPU-0 bus=00000000:10:00.0 device=233010de total=81559 used=4 reserved=500 cap=9.0 util=3 power=70000
         temp=30 mig=-1 nvlinks=18 island=0 peer=BUS numa=0 arch=9 lost=0
         name=NVIDIA_H100_80GB_HBM3     (MiB, milliwatts; _ is a blank; peer: far end of its links)
     process gpu=0 pid=123 used=1000                                                             (used=-1: not known)
     mig gpu=0 uuid=MIG-0 total=9728 used=13 name=NVIDIA_H100_MIG_1g.10gb

   A `process` line may say pid=@PATH: the numbers in that file, one per line. */

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { OK = 0, INVALID = 2, UNSUPPORTED = 3, NOT_FOUND = 6, TOO_SMALL = 7, NO_FUNCTION = 13, LOST = 15, MAX = 64, TEXT = 256 };
#define MIB (1024ULL * 1024)

typedef unsigned int u32;
typedef unsigned long long u64;

typedef struct {
    char uuid[TEXT], bus[32], peer[32], name[TEXT];
    u32 index, device, util, power, temp, arch, nvlinks;
    int major, minor, mig, island, numa, lost;
    u64 total, used, reserved;
} gpu_t;
typedef struct { u32 gpu, pid; long long used; } process_t;
typedef struct { u32 gpu; char uuid[TEXT], name[TEXT]; u64 total, used; } part_t;

static struct {
    char driver[TEXT];
    int cuda, init, count, gpus, processes, parts;
    gpu_t gpu[MAX];
    process_t process[MAX];
    part_t part[MAX];
} now;

static const char *value(const char *line, const char *key, const char *otherwise) {
    static char found[8][TEXT];
    static int turn;
    char wanted[64];
    snprintf(wanted, sizeof wanted, " %s=", key);
    const char *at = strstr(line, wanted);
    if (!at) return otherwise;
    char *out = found[turn = (turn + 1) % 8];
    sscanf(at + strlen(wanted), "%255s", out);
    return out;
}

static long long number(const char *line, const char *key, long long otherwise) {
    const char *text = value(line, key, NULL);
    return text ? atoll(text) : otherwise;
}

static void words(char *out, const char *text) {
    snprintf(out, TEXT, "%s", text);
    for (; *out; out++)
        if (*out == '_') *out = ' ';
}

static void read_gpu(const char *line) {
    gpu_t *one = &now.gpu[now.gpus];
    memset(one, 0, sizeof *one);
    one->index = (u32)number(line, "index", now.gpus);
    snprintf(one->uuid, TEXT, "%s", value(line, "uuid", "GPU-none"));
    snprintf(one->bus, sizeof one->bus, "%s", value(line, "bus", "00000000:10:00.0"));
    snprintf(one->peer, sizeof one->peer, "%s", value(line, "peer", ""));
    words(one->name, value(line, "name", "NVIDIA_GPU"));
    one->device = (u32)strtoul(value(line, "device", "0"), NULL, 16);
    one->total = number(line, "total", 81559) * MIB;
    one->used = number(line, "used", 0) * MIB;
    one->reserved = number(line, "reserved", 0) * MIB;
    sscanf(value(line, "cap", "9.0"), "%d.%d", &one->major, &one->minor);
    one->util = (u32)number(line, "util", 0);
    one->power = (u32)number(line, "power", 70000);
    one->temp = (u32)number(line, "temp", 30);
    one->arch = (u32)number(line, "arch", 9);
    one->mig = (int)number(line, "mig", -1);
    one->nvlinks = (u32)number(line, "nvlinks", 0);
    one->island = (int)number(line, "island", -1);
    one->numa = (int)number(line, "numa", -1);
    one->lost = (int)number(line, "lost", 0);
    now.gpus++;
}

static void add_process(u32 gpu, u32 pid, long long used) {
    if (now.processes < MAX) now.process[now.processes++] = (process_t){gpu, pid, used < 0 ? -1 : used * (long long)MIB};
}

static void read_process(const char *line) {
    const char *pid = value(line, "pid", "0");
    u32 gpu = (u32)number(line, "gpu", 0);
    long long used = number(line, "used", 0);
    if (*pid != '@') {
        add_process(gpu, (u32)atoi(pid), used);
        return;
    }
    FILE *file = fopen(pid + 1, "r");
    if (!file) return;
    for (u32 each; fscanf(file, "%u", &each) == 1;) add_process(gpu, each, used);
    fclose(file);
}

static void read_part(const char *line) {
    part_t *one = &now.part[now.parts++];
    one->gpu = (u32)number(line, "gpu", 0);
    snprintf(one->uuid, TEXT, "%s", value(line, "uuid", "MIG-none"));
    words(one->name, value(line, "name", "NVIDIA_MIG"));
    one->total = number(line, "total", 9728) * MIB;
    one->used = number(line, "used", 0) * MIB;
}

/* Reads the table; OK, or what the call of this name shall answer instead. */
static int look(const char *call) {
    char line[1024], name[TEXT];
    int answer = OK, number_read;
    const char *path = getenv("FAKE_NVML_TABLE");
    FILE *table = path ? fopen(path, "r") : NULL;
    memset(&now, 0, sizeof now);
    now.count = -1;
    if (!table) return OK;
    while (fgets(line, sizeof line, table)) {
        if (sscanf(line, "driver %255s", now.driver) == 1) continue;
        if (sscanf(line, "cuda %d", &now.cuda) == 1 || sscanf(line, "init %d", &now.init) == 1) continue;
        if (sscanf(line, "count %d", &now.count) == 1) continue;
        if (sscanf(line, "missing %255s", name) == 1 && !strcmp(name, call)) answer = NO_FUNCTION;
        if (sscanf(line, "slow %255s %d", name, &number_read) == 2 && !strcmp(name, call)) usleep((useconds_t)number_read * 1000);
        if (!strncmp(line, "gpu ", 4) && now.gpus < MAX) read_gpu(line);
        if (!strncmp(line, "process ", 8)) read_process(line);
        if (!strncmp(line, "mig ", 4) && now.parts < MAX) read_part(line);
    }
    fclose(table);
    return answer;
}

/* A handle is an index plus one; parts come after all whole GPUs. */
typedef void *handle_t;
static handle_t handle_of(int at) { return (handle_t)(size_t)(at + 1); }

static int find(const char *call, handle_t handle, gpu_t **gpu, part_t **part) {
    int answer = look(call), at = (int)(size_t)handle - 1;
    if (answer != OK) return answer;
    if (part) *part = NULL;
    if (at >= MAX && part && at - MAX < now.parts) {
        *part = &now.part[at - MAX];
        *gpu = &now.gpu[(*part)->gpu];
    } else if (at >= 0 && at < now.gpus) {
        *gpu = &now.gpu[at];
    } else {
        return INVALID;
    }
    return (*gpu)->lost ? (*gpu)->lost : OK;
}

#define FIND(handle) \
    gpu_t *gpu; \
    { int answer = find(__func__, handle, &gpu, NULL); if (answer != OK) return answer; }
#define FIND_PART(handle) \
    gpu_t *gpu; part_t *part; \
    { int answer = find(__func__, handle, &gpu, &part); if (answer != OK) return answer; }
#define LOOK() { int answer = look(__func__); if (answer != OK) return answer; }

int nvmlInitWithFlags(u32 flags) { (void)flags; LOOK(); return now.init; }
int nvmlShutdown(void) { return OK; }

const char *nvmlErrorString(int code) {
    static char text[64];
    snprintf(text, sizeof text, code == LOST ? "GPU is lost" : "error %d", code);
    return text;
}

int nvmlSystemGetDriverVersion(char *out, u32 size) { LOOK(); snprintf(out, size, "%s", now.driver); return OK; }
int nvmlSystemGetCudaDriverVersion_v2(int *out) { LOOK(); *out = now.cuda; return OK; }
int nvmlDeviceGetCount_v2(u32 *out) { LOOK(); *out = (u32)(now.count >= 0 ? now.count : now.gpus); return OK; }

int nvmlDeviceGetHandleByIndex_v2(u32 index, handle_t *out) {
    LOOK();
    if ((int)index >= now.gpus) return INVALID;
    *out = handle_of((int)index);
    return now.gpu[index].lost ? now.gpu[index].lost : OK;
}

int nvmlDeviceGetName(handle_t h, char *out, u32 size) { FIND_PART(h); snprintf(out, size, "%s", part ? part->name : gpu->name); return OK; }
int nvmlDeviceGetUUID(handle_t h, char *out, u32 size) { FIND_PART(h); snprintf(out, size, "%s", part ? part->uuid : gpu->uuid); return OK; }

struct memory { u64 total, free, used; };
struct memory_v2 { u32 version; u64 total, reserved, free, used; };

int nvmlDeviceGetMemoryInfo(handle_t h, struct memory *out) {
    FIND_PART(h);
    out->total = part ? part->total : gpu->total;
    out->used = part ? part->used : gpu->used + gpu->reserved;
    out->free = out->total - out->used;
    return OK;
}

int nvmlDeviceGetMemoryInfo_v2(handle_t h, struct memory_v2 *out) {
    FIND_PART(h);
    out->total = part ? part->total : gpu->total;
    out->used = part ? part->used : gpu->used;
    out->reserved = part ? 0 : gpu->reserved;
    out->free = out->total - out->used - out->reserved;
    return OK;
}

struct pci { char legacy[16]; u32 domain, bus, device, device_id, subsystem; char bus_id[32]; };

int nvmlDeviceGetPciInfo_v3(handle_t h, struct pci *out) {
    FIND(h);
    memset(out, 0, sizeof *out);
    out->device_id = gpu->device;
    memcpy(out->bus_id, gpu->bus, sizeof out->bus_id);
    return OK;
}

int nvmlDeviceGetCudaComputeCapability(handle_t h, int *major, int *minor) { FIND(h); *major = gpu->major; *minor = gpu->minor; return OK; }
int nvmlDeviceGetArchitecture(handle_t h, u32 *out) { FIND(h); *out = gpu->arch; return OK; }
int nvmlDeviceGetPowerUsage(handle_t h, u32 *out) { FIND(h); *out = gpu->power; return OK; }
int nvmlDeviceGetTemperature(handle_t h, u32 sensor, u32 *out) { (void)sensor; FIND(h); *out = gpu->temp; return OK; }
int nvmlDeviceGetPersistenceMode(handle_t h, u32 *out) { FIND(h); *out = 1; return OK; }
int nvmlDeviceGetNumaNodeId(handle_t h, int *out) { FIND(h); *out = gpu->numa; return gpu->numa < 0 ? UNSUPPORTED : OK; }

struct utilisation { u32 gpu, memory; };
int nvmlDeviceGetUtilizationRates(handle_t h, struct utilisation *out) {
    FIND(h);
    *out = (struct utilisation){gpu->util, 0};
    return gpu->mig > 0 ? UNSUPPORTED : OK;
}

struct process_info { u32 pid; u64 used; u32 instance, compute; };
int nvmlDeviceGetComputeRunningProcesses_v3(handle_t h, u32 *count, struct process_info *out) {
    FIND(h);
    u32 room = *count, found = 0;
    for (int at = 0; at < now.processes; at++) {
        if (now.process[at].gpu != gpu->index) continue;
        if (out && found < room)
            out[found] = (struct process_info){now.process[at].pid, (u64)now.process[at].used, 0xffffffffu, 0xffffffffu};
        found++;
    }
    *count = found;
    return found > room ? TOO_SMALL : OK;
}

int nvmlDeviceGetMigMode(handle_t h, u32 *current, u32 *pending) {
    FIND(h);
    if (gpu->mig < 0) return UNSUPPORTED;
    *current = *pending = (u32)gpu->mig;
    return OK;
}
int nvmlDeviceGetMaxMigDeviceCount(handle_t h, u32 *out) { FIND(h); *out = 7; return OK; }
int nvmlDeviceGetMigDeviceHandleByIndex(handle_t h, u32 index, handle_t *out) {
    FIND(h);
    for (int at = 0, seen = 0; at < now.parts; at++)
        if (now.part[at].gpu == gpu->index && (u32)seen++ == index) {
            *out = handle_of(MAX + at);
            return OK;
        }
    return NOT_FOUND;
}

int nvmlDeviceGetNvLinkState(handle_t h, u32 link, u32 *out) {
    FIND(h);
    if (!gpu->nvlinks) return UNSUPPORTED;
    if (link >= gpu->nvlinks) return INVALID;
    *out = 1;
    return OK;
}

int nvmlDeviceGetP2PStatus(handle_t a, handle_t b, u32 what, u32 *out) {
    gpu_t *other;
    int answer = find(__func__, b, &other, NULL);
    FIND(a);
    if (answer != OK) return answer;
    other = &now.gpu[(size_t)b - 1]; /* the second look has read the table anew */
    *out = what == 2 && gpu->island >= 0 && gpu->island == other->island ? 0 : 1;
    return OK;
}

int nvmlDeviceGetNvLinkRemotePciInfo_v2(handle_t h, u32 link, struct pci *out) {
    FIND(h);
    if (link >= gpu->nvlinks) return INVALID;
    memset(out, 0, sizeof *out);
    memcpy(out->bus_id, gpu->peer, sizeof out->bus_id);
    return OK;
}

int nvmlDeviceGetTopologyCommonAncestor(handle_t a, handle_t b, u32 *out) {
    FIND(a);
    gpu_t *other = &now.gpu[(size_t)b - 1];
    *out = gpu->numa == other->numa ? 30 : 50;
    return OK;
}
