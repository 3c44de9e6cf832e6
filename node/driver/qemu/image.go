package qemu

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"time"

	"github.com/hansa-mesh/hansa/node/driver"
)

// imageTimeout bounds what qemu-img may take over an image.
const imageTimeout = time.Minute

// image is what is known of a disk image that somebody uploaded.
type image struct {
	Format string // "qcow2" or "raw"
	Size   int64  // of the disk that it is
}

// inspect looks at an image before a machine gets it. Its format goes by what it
// begins with, here and nowhere else: of a raw disk the guest could write
// another format's beginning, so qemu is always told. An image that names other
// files (a backing file, a file for its data) is refused, since it would show
// the guest any file of this host.
func inspect(ctx context.Context, qemuImg, path string) (image, error) {
	f, err := os.Open(path)
	if err != nil {
		return image{}, fmt.Errorf("open the image: %w", err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return image{}, fmt.Errorf("open the image: %w", err)
	}
	header := make([]byte, 104)
	n, err := io.ReadFull(f, header)
	if err != nil && !errors.Is(err, io.ErrUnexpectedEOF) && !errors.Is(err, io.EOF) {
		return image{}, fmt.Errorf("read the image: %w", err)
	}
	header = header[:n]
	if strings.HasPrefix(string(header), "QFI\xfb") {
		if err := checkQcow2(header, info.Size()); err != nil {
			return image{}, err
		}
		return image{Format: "qcow2", Size: int64(binary.BigEndian.Uint64(header[24:]))}, verify(ctx, qemuImg, path)
	}
	for magic, name := range map[string]string{"KDMV": "VMDK", "conectix": "VHD", "vhdxfile": "VHDX", "<<< ": "VDI", "\x1f\x8b": "gzip", "\xfd7zXZ": "xz", "\x28\xb5\x2f\xfd": "zstd"} {
		if strings.HasPrefix(string(header), magic) {
			return image{}, fmt.Errorf("%w: the image is of the format %s: convert it with \"qemu-img convert -O qcow2\", or unpack it", driver.ErrInvalid, name)
		}
	}
	if err := checkRaw(f, info.Size()); err != nil {
		return image{}, err
	}
	return image{Format: "raw", Size: (info.Size() + 511) &^ 511}, nil
}

// checkQcow2 reads a header as qemu's docs/interop/qcow2.txt has it.
func checkQcow2(h []byte, size int64) error {
	bad := func(format string, args ...any) error {
		return fmt.Errorf("%w: the image: %s", driver.ErrInvalid, fmt.Sprintf(format, args...))
	}
	if len(h) < 72 {
		return bad("it ends within its header, after %d bytes: it is truncated", size)
	}
	number := func(at int) uint64 { return binary.BigEndian.Uint64(h[at:]) }
	version, clusterBits := binary.BigEndian.Uint32(h[4:]), binary.BigEndian.Uint32(h[20:])
	const externalData = 1 << 2
	switch {
	case version != 2 && version != 3:
		return bad("version %d of qcow2 is not known: 2 and 3 are", version)
	case clusterBits < 9 || clusterBits > 21:
		return bad("its header is damaged: clusters of 2^%d bytes", clusterBits)
	case number(8) != 0:
		return bad(`it has a backing file: make it whole with "qemu-img convert -O qcow2"`)
	case version == 3 && len(h) < 104:
		return bad("it ends within its header, after %d bytes: it is truncated", size)
	case version == 3 && number(72)&externalData != 0:
		return bad(`its data is in another file: make it whole with "qemu-img convert -O qcow2"`)
	case binary.BigEndian.Uint32(h[32:]) != 0:
		return bad("it is encrypted: nobody could give it the key")
	case number(24) > 1<<50:
		return bad("its header is damaged: a disk of %d bytes", number(24))
	}
	tables := map[string]uint64{
		"map (L1)": number(40) + uint64(binary.BigEndian.Uint32(h[36:]))*8,
		"counts":   number(48) + uint64(binary.BigEndian.Uint32(h[56:]))<<clusterBits,
	}
	for what, end := range tables {
		// A file that was never written to ends before its last cluster does.
		if end > uint64(size)+1<<clusterBits {
			return bad("it has %d bytes, and its table of %s goes to %d: it is truncated", size, what, end)
		}
	}
	return nil
}

// verify has qemu-img follow all tables of a qcow2 image: one that was truncated
// has clusters beyond its end.
func verify(ctx context.Context, qemuImg, path string) error {
	ctx, cancel := context.WithTimeout(ctx, imageTimeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, qemuImg, "check", "--output=json", "-f", "qcow2", "-U", path)
	out, err := cmd.Output()
	var found struct {
		End         int64 `json:"image-end-offset"`
		Errors      int64 `json:"check-errors"`
		Corruptions int64 `json:"corruptions"`
	}
	if json.Unmarshal(out, &found) != nil {
		return fmt.Errorf("%w: the image can't be read: %s", driver.ErrInvalid, told(ctx, err))
	}
	info, statErr := os.Stat(path)
	switch {
	case statErr != nil:
		return fmt.Errorf("read the image: %w", statErr)
	case found.Corruptions > 0 || found.Errors > 0:
		return fmt.Errorf("%w: the image is damaged or truncated: qemu-img check finds %d errors in its tables", driver.ErrInvalid, found.Corruptions+found.Errors)
	case found.End > info.Size()+1<<21:
		return fmt.Errorf("%w: the image has %d bytes, and data up to %d: it is truncated", driver.ErrInvalid, info.Size(), found.End)
	}
	return nil
}

// told is what a tool that failed wrote, or else the error.
func told(ctx context.Context, err error) string {
	if ctx.Err() != nil {
		return "it took too long"
	}
	var exit *exec.ExitError
	if errors.As(err, &exit) && len(exit.Stderr) > 0 {
		return strings.TrimSpace(string(exit.Stderr[:min(len(exit.Stderr), 512)]))
	}
	return fmt.Sprint(err)
}

// checkRaw looks at what a raw disk says of its own length in its partition
// table: the first record of it, or the copy of a GPT that is in the last
// sector.
func checkRaw(f io.ReaderAt, size int64) error {
	const sector = 512
	if size < sector {
		return fmt.Errorf("%w: the image has %d bytes: no disk is that small", driver.ErrInvalid, size)
	}
	head := make([]byte, 2*sector)
	n, err := f.ReadAt(head, 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return fmt.Errorf("read the image: %w", err)
	}
	end := int64(0)
	switch head = head[:n]; {
	case n == 2*sector && string(head[sector:sector+8]) == "EFI PART":
		end = int64(min(binary.LittleEndian.Uint64(head[sector+32:]), 1<<40)+1) * sector
	case head[510] == 0x55 && head[511] == 0xAA && mbr(head):
		for p := 446; p < 510; p += 16 {
			first, count := binary.LittleEndian.Uint32(head[p+8:]), binary.LittleEndian.Uint32(head[p+12:])
			if head[p+4] != 0 {
				end = max(end, (int64(first)+int64(count))*sector)
			}
		}
	}
	if end > size {
		return fmt.Errorf("%w: the image has %d bytes, and its partitions go to %d: it is truncated", driver.ErrInvalid, size, end)
	}
	return nil
}

// mbr tells a partition table from what else ends in 55 AA, like the first
// sector of a file system that begins at once.
func mbr(head []byte) bool {
	for p := 446; p < 510; p += 16 {
		if head[p]&0x7F != 0 { // active or not: nothing else
			return false
		}
	}
	return true
}
