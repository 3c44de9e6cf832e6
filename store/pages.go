package store

import (
	"bufio"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// forgetPages takes the pages of Badger's tables out of this process: they are
// mapped, and after verify has read every one they would count as resident
// (32 MiB for 100,000 records) until the kernel is short of memory. What is
// read again comes back by itself. It is best effort.
func forgetPages(dir string) {
	dir, err := filepath.EvalSymlinks(filepath.Join(dir, "db"))
	if err == nil {
		dir, err = filepath.Abs(dir)
	}
	if err != nil {
		return
	}
	maps, err := os.Open("/proc/self/maps")
	if err != nil {
		return
	}
	defer maps.Close()
	for lines := bufio.NewScanner(maps); lines.Scan(); {
		// 7f5e1c000000-7f5e1c200000 rw-s 00000000 fd:00 1234   /data/db/000001.sst
		_, path, _ := strings.Cut(lines.Text(), "/")
		if path = "/" + path; filepath.Dir(path) != dir || filepath.Ext(path) != ".sst" {
			continue
		}
		var begin, end uintptr
		if _, err := fmt.Sscanf(lines.Text(), "%x-%x", &begin, &end); err == nil && begin < end {
			// A shared mapping of a file loses nothing: its pages are the
			// file's.
			_, _, _ = unix.Syscall(unix.SYS_MADVISE, begin, end-begin, unix.MADV_DONTNEED)
		}
	}
}
