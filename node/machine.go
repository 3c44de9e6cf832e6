package node

import (
	"bufio"
	"os"
	"runtime"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/hansa-mesh/hansa/placement"
)

// What is kept for the system and for the daemon itself.
const (
	memoryReserve      = 256 << 20
	memoryReserveShare = 10 // percent, where that is more
	memoryUnknown      = 1 << 30
	grain              = 1 << 20 // so that "7231Mi are free" can be read
	diskSteps          = 64      // of what is free: less of a change is not told
)

// machine is what this machine can give to work, where want leaves it open.
func machine(dir string, want placement.Resources) placement.Resources {
	if want.CPU == 0 {
		want.CPU = placement.CPU(runtime.NumCPU() * 1000)
	}
	if want.Memory == 0 {
		total := memoryTotal()
		want.Memory = placement.Bytes(max(0, total-max(memoryReserve, total*memoryReserveShare/100)) &^ (grain - 1))
	}
	if want.Disk == 0 {
		var fs unix.Statfs_t
		if err := unix.Statfs(dir, &fs); err == nil {
			want.Disk = placement.Bytes(int64(fs.Bavail) * int64(fs.Bsize))
		}
	}
	return want
}

// steady is what is told of free disk where some was told before: logs and caches move
// it all the time, and each change is news to every peer of the mesh.
func steady(told, found placement.Bytes) placement.Bytes {
	if least := told - told/diskSteps; found >= least && found <= told+told/diskSteps {
		return told
	}
	return found &^ (grain - 1)
}

// Machine is what this machine can give to work, with dir on the disk that is
// counted.
func Machine(dir string) placement.Resources { return machine(dir, placement.Resources{}) }

// memoryTotal is the memory of this machine, or a cautious guess.
func memoryTotal() int64 {
	file, err := os.Open("/proc/meminfo")
	if err != nil {
		return memoryUnknown
	}
	defer file.Close()
	for lines := bufio.NewScanner(file); lines.Scan(); {
		rest, ok := strings.CutPrefix(lines.Text(), "MemTotal:")
		if !ok {
			continue
		}
		kb, err := strconv.ParseInt(strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(rest), "kB")), 10, 64)
		if err != nil {
			break
		}
		return kb << 10
	}
	return memoryUnknown
}
