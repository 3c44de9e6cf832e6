package qemu

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// joinBridge puts a machine's interface on a bridge of the host, and up. The
// interface is qemu's, and goes with it.
func joinBridge(tap, bridge string) error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("join the bridge %s: %w", bridge, err)
	}
	defer unix.Close(fd)
	port, err := unix.NewIfreq(tap)
	if err == nil {
		err = unix.IoctlIfreq(fd, unix.SIOCGIFINDEX, port)
	}
	if err != nil {
		return fmt.Errorf("find the interface %s: %w", tap, err)
	}
	at, err := unix.NewIfreq(bridge)
	if err != nil {
		return fmt.Errorf("join the bridge %s: %w", bridge, err)
	}
	at.SetUint32(port.Uint32()) // the index
	if err := unix.IoctlIfreq(fd, unix.SIOCBRADDIF, at); err != nil {
		return fmt.Errorf("join the bridge %s: %w", bridge, err)
	}
	up, err := unix.NewIfreq(tap)
	if err == nil {
		err = unix.IoctlIfreq(fd, unix.SIOCGIFFLAGS, up)
	}
	if err == nil {
		up.SetUint16(up.Uint16() | unix.IFF_UP)
		err = unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, up)
	}
	if err != nil {
		return fmt.Errorf("bring the interface %s up: %w", tap, err)
	}
	return nil
}
