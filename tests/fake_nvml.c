/* A driver's library with cards of a text file ($FAKE_NVML), read anew at each count: what nvml.h of CUDA 12 promises,
   as far as llamarouter/host/devices/nvml.py asks for it.

     card BUS TOTAL FREE UUID NAME...    total 0: no memory of its own    bus "lost": it does not answer
     instance TOTAL FREE UUID            of the card above, which is partitioned then
     process PID BYTES                   of the card or instance above; BYTES -1: not known
     hang                                the count never returns                                                     */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

typedef unsigned long long u64;
struct process { unsigned pid; u64 used; unsigned gpu, compute; };
struct device {
  char bus[32], uuid[96], name[96];
  u64 total, free;
  int processes, instances, is_instance;
  struct process process[300];
  struct device *instance[8];
};
static struct device devices[32];
static struct device *cards[8];
static int n_devices, n_cards;

static struct device *add(void) {
  struct device *one = &devices[n_devices++];
  memset(one, 0, sizeof *one);
  return one;
}

static void look(void) {
  char line[512];
  FILE *file = fopen(getenv("FAKE_NVML"), "r");
  struct device *last = NULL;
  n_devices = n_cards = 0;
  if (!file) return;
  while (fgets(line, sizeof line, file)) {
    long long used;
    unsigned pid;
    struct device one;
    memset(&one, 0, sizeof one);
    if (!strncmp(line, "hang", 4)) for (;;) pause();
    if (sscanf(line, "card %31s %llu %llu %95s %95[^\n]", one.bus, &one.total, &one.free, one.uuid, one.name) == 5) {
      last = cards[n_cards++] = add();
      *last = one;
    } else if (sscanf(line, "instance %llu %llu %95s", &one.total, &one.free, one.uuid) == 3) {
      struct device *card = cards[n_cards - 1];
      last = card->instance[card->instances++] = add();
      strcpy(one.name, card->name);
      one.is_instance = 1;
      *last = one;
    } else if (sscanf(line, "process %u %lld", &pid, &used) == 2) {
      struct process *each = &last->process[last->processes++];
      each->pid = pid;
      each->used = (u64)used;
    }
  }
  fclose(file);
}

int nvmlInit_v2(void) { return 0; }
int nvmlDeviceGetCount_v2(unsigned *count) { look(); *count = n_cards; return 0; }
int nvmlDeviceGetHandleByIndex_v2(unsigned at, struct device **card) {
  *card = cards[at];
  return strcmp(cards[at]->bus, "lost") ? 0 : 15;
}
int nvmlDeviceGetName(struct device *one, char *text, unsigned size) { snprintf(text, size, "%s", one->name); return 0; }
int nvmlDeviceGetUUID(struct device *one, char *text, unsigned size) { snprintf(text, size, "%s", one->uuid); return 0; }
int nvmlDeviceGetMemoryInfo(struct device *one, u64 memory[3]) {
  if (!one->total) return 3;
  memory[0] = one->total, memory[1] = one->free, memory[2] = one->total - one->free;
  return 0;
}
struct pci { char legacy[16]; unsigned domain, bus, device, ids[2]; char bus_id[32]; };
int nvmlDeviceGetPciInfo_v3(struct device *one, struct pci *pci) {
  return sscanf(one->bus, "%x:%x:%x", &pci->domain, &pci->bus, &pci->device) == 3 ? 0 : 2;
}
int nvmlDeviceGetMigMode(struct device *one, unsigned *now, unsigned *later) { *now = *later = one->instances > 0; return 0; }
int nvmlDeviceGetMaxMigDeviceCount(struct device *one, unsigned *count) { *count = 7; return 0; }
int nvmlDeviceGetMigDeviceHandleByIndex(struct device *one, unsigned at, struct device **instance) {
  if ((int)at >= one->instances) return 6;
  *instance = one->instance[at];
  return 0;
}
int nvmlDeviceGetComputeRunningProcesses_v3(struct device *one, unsigned *count, struct process *list) {
  unsigned room = *count;
  *count = one->processes;
  if (room < (unsigned)one->processes) return 7;
  memcpy(list, one->process, one->processes * sizeof *list);
  return 0;
}
