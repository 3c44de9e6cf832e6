package api

import (
	"time"

	"github.com/hansa-mesh/hansa/placement"
)

// Exit is how a run of an allocation ended.
type Exit struct {
	Code   *int      `json:"code,omitempty"`
	Reason string    `json:"reason"`
	At     time.Time `json:"at"`
}

// WorkUsage is what an allocation uses.
type WorkUsage struct {
	CPU      placement.CPU   `json:"cpu" doc:"Of a core, over the last sample"`
	Memory   placement.Bytes `json:"memory"`
	Tasks    int             `json:"tasks,omitempty" doc:"Processes and threads"`
	Requests uint64          `json:"requests,omitempty" doc:"That a function answered since it was started last"`
	At       time.Time       `json:"at"`
}

// DriverLimit says whether a limit on a resource holds at a host.
type DriverLimit struct {
	Enforced bool   `json:"enforced"`
	Detail   string `json:"detail,omitempty" doc:"By what, or why not"`
}
