package placement

import "fmt"

// What a virtual machine takes of its host's memory, which its driver holds it to:
// its guest's, or that where the manifest does not say, and beside it what the
// program takes that is the machine. It is the same with and without emulation,
// so that a planner need not know which a host has.
const (
	MachineMemory   Bytes = 512 << 20
	MachineOverhead Bytes = 256 << 20
)

// Takes is what a slot takes of its host, volumes left out: what the component
// asks for, and what its driver needs to run it.
func (c Component) Takes() Resources {
	takes := c.Resources
	if c.Driver() != DriverQemu {
		return takes
	}
	if takes.Memory == 0 {
		takes.Memory = MachineMemory
	}
	takes.Memory += MachineOverhead
	return takes
}

// beside says in words what a slot takes that its manifest does not ask for.
func (c Component) beside() string {
	if c.Driver() != DriverQemu {
		return ""
	}
	if c.Resources.Memory == 0 {
		return fmt.Sprintf("a slot takes %s of memory, %s of it beside the guest's", c.Takes().Memory, MachineOverhead)
	}
	return fmt.Sprintf("a slot takes %s of memory beside the guest's", MachineOverhead)
}
