package placement

import "testing"

// An allocation has one name: whatever else looks like it is refused.
func TestAllocationHasOneName(t *testing.T) {
	const good = "p1-1-z-p2-a.1"
	if id, err := ParseAllocationID(good); err != nil || id.String() != good {
		t.Fatalf("%s, %v", id, err)
	}
	for _, bad := range []string{
		"", ".", "p1-1-z-p2-a", "p1-1-z-p2-a.", "p1-1-z-p2-a.01", "p1-1-z-p2-a.+1", "p1-1-z-p2-a.-1", "p1-1-z-p2-a. 1", "p1-1-z-p2-a.1 ",
		"p1-1-z-p2-a.1.1", "p1-1-z-p2-a.4294967296", "p1-1-Z-p2-a.1", "p1-01-z-p2-a.1", "p1-1-z-p2-0a.1", "p1-1-+z-p2-a.1", "p1-1-z-p2.1", "p1-1-z-p2-a-1.1",
	} {
		if id, err := ParseAllocationID(bad); err == nil {
			t.Errorf("%q is taken for %s", bad, id)
		}
	}
}

func FuzzParseAllocationID(f *testing.F) {
	f.Add("p1-1-z-p2-a.1")
	f.Add("p1-1-z-p2-a.01")
	f.Add("--0--0.0")
	f.Fuzz(func(t *testing.T, text string) {
		if id, err := ParseAllocationID(text); err == nil && id.String() != text {
			t.Errorf("%q is taken for %s", text, id)
		}
	})
}
