package gossip

import (
	"encoding/binary"
	"hash/crc32"
	"testing"
)

// What memberlist may read otherwise than the tap is not passed on to it: a suspicion
// that is believed unseen might name an incarnation that nobody can refute.
func TestTapIsStrict(t *testing.T) {
	const head, node, from, inc = "\x03\x83", "\xa4Node\xa1v", "\xa4From\xa1l", "\xabIncarnation\xce\xff\xff\xff\xff"
	for name, m := range map[string]string{
		"as memberlist writes it":   head + inc + node + from,
		"in another order":          head + node + from + inc,
		"a map with a long head":    "\x03\xde\x00\x03" + inc + node + from,
		"an unknown kind of field":  "\x03\x84" + "\xa1x\xc3" + inc + node + from,
		"the incarnation twice":     "\x03\x84" + "\xabIncarnation\x01" + node + from + inc,
		"the node twice":            "\x03\x84" + "\xa4Node\xa1w" + inc + node + from,
		"no incarnation":            "\x03\x82" + node + from,
		"no node":                   "\x03\x82" + inc + from,
		"an incarnation that is no": head + "\xabIncarnation\xa1x" + node + from,
		"cut off":                   head + inc + "\xa4Node\xa9v",
	} {
		var seen []uint64
		ok := tapPacket([]byte(m), func(of string, i uint64, kind byte) {
			if of == "v" && kind == suspectMsg {
				seen = append(seen, i)
			}
		})
		if good := name == "as memberlist writes it" || name == "in another order"; ok != good || good != (len(seen) == 1 && seen[0] == 1<<32-1) {
			t.Errorf("%s: passed on %t, seen %v", name, ok, seen)
		}
	}
}

// A damaged packet, which memberlist drops, is not looked at.
func TestTapChecksTheSum(t *testing.T) {
	word := memberlistWord(suspectMsg, "v", "l", 1)
	for _, damage := range []uint32{0, 1} {
		packet := append(binary.BigEndian.AppendUint32([]byte{hasCRCMsg}, crc32.ChecksumIEEE(word)+damage), word...)
		seen := 0
		good := tapPacket(packet, func(string, uint64, byte) { seen++ })
		if good != (damage == 0) || good != (seen == 1) {
			t.Errorf("damage %d: passed on %t, %d seen", damage, good, seen)
		}
	}
}
