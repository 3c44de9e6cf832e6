package node

import (
	"testing"

	"github.com/hansa-mesh/hansa/placement"
)

func TestFreeDiskIsToldInSteps(t *testing.T) {
	const gib = placement.Bytes(1 << 30)
	for _, c := range []struct{ told, found, want placement.Bytes }{
		{0, 64*gib + 5, 64 * gib},
		{64 * gib, 64*gib - 1, 64 * gib},
		{64 * gib, 63 * gib, 64 * gib},
		{64 * gib, 63*gib - 1, 63*gib - 1<<20},
		{64 * gib, 65 * gib, 64 * gib},
		{64 * gib, 65*gib + 1<<20, 65*gib + 1<<20},
		{64 * gib, 0, 0},
		{0, 0, 0},
	} {
		if got := steady(c.told, c.found); got != c.want {
			t.Errorf("%d told, %d found: %d, want %d", c.told, c.found, got, c.want)
		}
	}
}
