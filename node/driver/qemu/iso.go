package qemu

import (
	"encoding/binary"
	"fmt"
	"io"
	"strings"
	"time"
)

// This file writes an ISO 9660 image with one folder of small files, which is
// what a seed is: every kernel, installer and cloud-init reads it. File names
// stand in Rock Ridge entries (NM), since those of ISO 9660 itself know neither
// lower case nor hyphens ("user-data").
//
//	sector 16  the primary descriptor    18, 19  tables of paths, of both byte orders
//	       17  the end of descriptors        20  the folder, then the files

const (
	isoSector   = 2048
	isoDirAt    = 20 // sector
	isoNamesMax = 16 // files: the folder has one sector
	isoNameMax  = 60
)

// isoFile is one file of an image.
type isoFile struct {
	name    string
	content []byte
}

// writeISO writes an image of that label with the files in its only folder.
func writeISO(w io.Writer, label string, files []isoFile, at time.Time) error {
	if len(files) > isoNamesMax || len(label) > 32 {
		return fmt.Errorf("write a seed: %d files, label %q: too much", len(files), label)
	}
	image := make([]byte, (isoDirAt+1)*isoSector)
	folder := image[isoDirAt*isoSector:]
	used := copy(folder, isoRecord(isoDirAt, isoSector, true, "\x00", susp("SP", 1, 0xBE, 0xEF, 0), at))
	used += copy(folder[used:], isoRecord(isoDirAt, isoSector, true, "\x01", nil, at))
	next := uint32(isoDirAt + 1)
	for i, f := range files {
		if len(f.name) > isoNameMax {
			return fmt.Errorf("write a seed: %q: the name is too long", f.name)
		}
		rock := append(susp("NM", 1, append([]byte{0}, f.name...)...), isoMode(0o100400)...)
		r := isoRecord(next, uint32(len(f.content)), false, fmt.Sprintf("F%d.;1", i), rock, at)
		if used+len(r) > isoSector {
			return fmt.Errorf("write a seed: %d files are too many", len(files))
		}
		used += copy(folder[used:], r)
		next += isoSectors(len(f.content))
	}
	isoDescriptor(image[16*isoSector:], label, next, at)
	copy(image[17*isoSector:], "\xffCD001\x01")
	path := []byte{1, 0, 0, 0, 0, 0, 1, 0, 0, 0}
	binary.LittleEndian.PutUint32(path[2:], isoDirAt)
	copy(image[18*isoSector:], path)
	binary.BigEndian.PutUint32(path[2:], isoDirAt)
	path[6], path[7] = 0, 1
	copy(image[19*isoSector:], path)
	if _, err := w.Write(image); err != nil {
		return fmt.Errorf("write a seed: %w", err)
	}
	for _, f := range files {
		padded := make([]byte, int(isoSectors(len(f.content)))*isoSector)
		copy(padded, f.content)
		if _, err := w.Write(padded); err != nil {
			return fmt.Errorf("write a seed: %w", err)
		}
	}
	return nil
}

func isoSectors(size int) uint32 { return uint32((size + isoSector - 1) / isoSector) }

func isoDescriptor(d []byte, label string, sectors uint32, at time.Time) {
	copy(d, "\x01CD001\x01")
	text := func(from, to int, s string) { copy(d[from:to], s+strings.Repeat(" ", to-from)) }
	text(8, 40, "")
	text(40, 72, label)
	both32(d[80:], sectors)
	both16(d[120:], 1) // volumes in the set
	both16(d[124:], 1) // this one's number
	both16(d[128:], isoSector)
	both32(d[132:], 10) // bytes of the table of paths
	binary.LittleEndian.PutUint32(d[140:], 18)
	binary.BigEndian.PutUint32(d[148:], 19)
	copy(d[156:190], isoRecord(isoDirAt, isoSector, true, "\x00", nil, at))
	text(190, 813, "")
	for _, from := range []int{813, 830, 847, 864} { // made, changed, expires, effective
		copy(d[from:], "0000000000000000\x00")
	}
	copy(d[813:], at.UTC().Format("20060102150405")+"00\x00")
	d[881] = 1
}

// isoRecord is one entry of the folder, with what is in the system's area of it.
func isoRecord(sector, size uint32, folder bool, name string, system []byte, at time.Time) []byte {
	r := make([]byte, 33, 255)
	both32(r[2:], sector)
	both32(r[10:], size)
	at = at.UTC()
	copy(r[18:], []byte{byte(at.Year() - 1900), byte(at.Month()), byte(at.Day()), byte(at.Hour()), byte(at.Minute()), byte(at.Second()), 0})
	if folder {
		r[25] = 2
	}
	both16(r[28:], 1)
	r[32] = byte(len(name))
	r = append(r, name...)
	if len(name)%2 == 0 {
		r = append(r, 0)
	}
	r = append(r, system...)
	if len(r)%2 == 1 {
		r = append(r, 0)
	}
	r[0] = byte(len(r))
	return r
}

// susp is one entry of the system's area.
func susp(kind string, version byte, data ...byte) []byte {
	return append([]byte{kind[0], kind[1], byte(4 + len(data)), version}, data...)
}

// isoMode is the entry that says a file's mode; it has one link and is root's.
func isoMode(mode uint32) []byte {
	data := make([]byte, 32)
	both32(data, mode)
	both32(data[8:], 1)
	return susp("PX", 1, data...)
}

func both16(b []byte, n uint16) {
	binary.LittleEndian.PutUint16(b, n)
	binary.BigEndian.PutUint16(b[2:], n)
}

func both32(b []byte, n uint32) {
	binary.LittleEndian.PutUint32(b, n)
	binary.BigEndian.PutUint32(b[4:], n)
}
