package guest

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
)

// KernelEnv names a folder that holds what the package of a Debian cloud kernel
// does (boot/vmlinuz-*, lib/modules/*). Without it the package is fetched with
// apt-get, once.
const KernelEnv = "HANSA_TEST_KERNEL"

// modules are what a guest needs beyond what is built into that kernel.
var modules = regexp.MustCompile(`/(virtio|virtio_ring|virtio_pci|virtio_pci_modern_dev|virtio_pci_legacy_dev|virtio_blk|virtio_net|net_failover|failover|evdev|button|isofs|cdrom|pvpanic|pvpanic-mmio)\.ko$`)

// Build puts the files vmlinuz and initrd into a folder, for a machine whose
// /init is the program.
func Build(program, dir string) (kernel, initrd string, err error) {
	root, err := debianKernel()
	if err != nil {
		return "", "", err
	}
	kernels, err := filepath.Glob(filepath.Join(root, "boot/vmlinuz-*"))
	if err == nil && len(kernels) == 0 {
		err = fmt.Errorf("%s holds no boot/vmlinuz-*", root)
	}
	if err != nil {
		return "", "", err
	}
	files := map[string]string{"init": program}
	err = filepath.WalkDir(filepath.Join(root, "lib/modules"), func(path string, _ os.DirEntry, err error) error {
		if modules.MatchString(path) {
			files["modules/"+filepath.Base(path)] = path
		}
		return err
	})
	if err != nil {
		return "", "", err
	}
	kernel, initrd = filepath.Join(dir, "vmlinuz"), filepath.Join(dir, "initrd")
	if err := copyFile(kernel, kernels[len(kernels)-1]); err != nil {
		return "", "", err
	}
	return kernel, initrd, writeCpio(initrd, files)
}

func copyFile(to, from string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.Create(to)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	return errors.Join(err, out.Close())
}

// debianKernel is the unpacked package of the kernel that linux-image-cloud-amd64
// depends on, kept between runs.
func debianKernel() (string, error) {
	if dir := os.Getenv(KernelEnv); dir != "" {
		return dir, nil
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", err
	}
	keep := filepath.Join(cache, "hansa-test-kernel")
	if found, _ := filepath.Glob(filepath.Join(keep, "boot/vmlinuz-*")); len(found) > 0 {
		return keep, nil
	}
	advice := "set " + KernelEnv + " to the unpacked package of a Debian cloud kernel"
	depends, err := exec.Command("apt-cache", "depends", "linux-image-cloud-amd64").Output()
	if err != nil {
		return "", fmt.Errorf("apt-cache: %w: %s", err, advice)
	}
	name := regexp.MustCompile(`linux-image-\d\S+-cloud-amd64\S*`).FindString(string(depends))
	if name == "" {
		return "", errors.New("apt knows no linux-image-cloud-amd64: " + advice)
	}
	tmp, err := os.MkdirTemp("", "hansa-kernel-")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(tmp)
	get := exec.Command("apt-get", "download", "-q", name)
	get.Dir = tmp
	if out, err := get.CombinedOutput(); err != nil {
		return "", fmt.Errorf("apt-get download %s: %w: %s: %s", name, err, out, advice)
	}
	packages, _ := filepath.Glob(filepath.Join(tmp, "*.deb"))
	if len(packages) != 1 {
		return "", fmt.Errorf("apt-get download %s left %d packages", name, len(packages))
	}
	root := filepath.Join(tmp, "root")
	if out, err := exec.Command("dpkg-deb", "-x", packages[0], root).CombinedOutput(); err != nil {
		return "", fmt.Errorf("dpkg-deb: %w: %s", err, out)
	}
	if err := os.MkdirAll(cache, 0o755); err != nil {
		return "", err
	}
	if err := exec.Command("cp", "-a", root, keep).Run(); err != nil { // may be another disk
		return "", fmt.Errorf("keep the kernel: %w", err)
	}
	return keep, nil
}

// writeCpio writes an initial file system: the archive format "newc" that kernels
// unpack.
func writeCpio(to string, files map[string]string) error {
	var b bytes.Buffer
	entry := func(name string, mode, major, minor int, content []byte) {
		fmt.Fprintf(&b, "070701%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%s\x00",
			b.Len(), mode, 0, 0, 1, 0, len(content), 0, 0, major, minor, len(name)+1, 0, name)
		for b.Len()%4 != 0 {
			b.WriteByte(0)
		}
		b.Write(content)
		for b.Len()%4 != 0 {
			b.WriteByte(0)
		}
	}
	entry("dev", 0o040755, 0, 0, nil)
	entry("dev/console", 0o020600, 5, 1, nil) // what init has as its output
	entry("modules", 0o040755, 0, 0, nil)
	names := make([]string, 0, len(files))
	for name := range files {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		content, err := os.ReadFile(files[name])
		if err != nil {
			return err
		}
		entry(name, 0o100755, 0, 0, content)
	}
	entry("TRAILER!!!", 0, 0, 0, nil)
	return os.WriteFile(to, b.Bytes(), 0o644)
}
