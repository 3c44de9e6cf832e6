// Package guest makes what a small virtual machine boots from: a Debian cloud
// kernel, and an initial file system that holds one static program and the
// kernel's modules for what qemu gives it (virtio, the power button). The tests of
// the driver and the example examples/mixed boot such machines.
//
//	kernel, initrd, err := guest.Build(program, dir)
//
// The program is /init, process 1. It finds the modules in /modules, in no order,
// and mounts /proc, /sys and /dev itself.
package guest
