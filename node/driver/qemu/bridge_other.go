//go:build !linux

package qemu

import (
	"fmt"
	"runtime"
)

func joinBridge(_, bridge string) error {
	return fmt.Errorf("join the bridge %s: not on %s", bridge, runtime.GOOS)
}
