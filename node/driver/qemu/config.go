package qemu

import (
	"log/slog"
	"time"

	"github.com/hansa-mesh/hansa/node/driver"
	"github.com/hansa-mesh/hansa/placement"
)

// Name of the driver.
const Name = "qemu"

// Config of a Driver.
type Config struct {
	// Dir holds the machines' disks and logs. Required; used by one driver at a
	// time.
	Dir string
	// Events receives changes of state while Run runs; nil for none.
	Events func(driver.Event)
	// Log; nil discards.
	Log *slog.Logger
	// Accel is "kvm", "tcg", or "" for KVM where a machine really runs with it,
	// else emulation.
	Accel string
	// Bridges are those of the host that machines may join; none by default.
	Bridges []string
	// ParkedMax bounds the bytes kept of the disks of machines that were
	// stopped; default 32 GiB.
	ParkedMax int64
	// ParkedFor is how long such a disk is kept; default 7 days.
	ParkedFor time.Duration
	// StartMax bounds how long qemu may take until it answers; default 30 s.
	StartMax time.Duration
	// Executable to run as supervisor; default this program.
	Executable string
}

const (
	parkedMaxDefault = 32 << 30
	parkedCountMax   = 256
	parkedForDefault = 7 * 24 * time.Hour
	startMaxDefault  = 30 * time.Second

	// What a machine has whose manifest does not say.
	memoryDefault = int64(placement.MachineMemory)
	// memoryMin is what qemu takes at all; a guest says itself what it needs.
	memoryMin = 16 << 20

	// What qemu may take beside the guest's memory before it is ended: an idle
	// machine of 128 MiB, emulated, has 249 MiB resident. With emulation the cache
	// of translated code comes on top. The host's ledger counts both.
	overheadMemory = int64(placement.MachineOverhead) - codeCache
	codeCache      = 96 << 20

	coresMax = 256 // of one machine
)

func (c Config) withDefaults() Config {
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.ParkedMax == 0 {
		c.ParkedMax = parkedMaxDefault
	}
	if c.ParkedFor == 0 {
		c.ParkedFor = parkedForDefault
	}
	if c.StartMax == 0 {
		c.StartMax = startMaxDefault
	}
	return c
}
