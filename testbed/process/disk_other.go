//go:build !linux

package process

import "errors"

var errDisk = errors.New("small disks are there on Linux only")

func (m *Mesh) mount(*daemon) error { return errDisk }
func (d *daemon) unmount() error    { return nil }
func unmountBelow(string) error     { return nil }

// Fill fails.
func (m *Mesh) Fill(string) error { return errDisk }

// Free fails.
func (m *Mesh) Free(string) error { return errDisk }

// Wipe fails.
func (m *Mesh) Wipe(string) error { return errDisk }
