package runner

import (
	"errors"
	"fmt"
	"testing"

	"github.com/hansa-mesh/hansa/node/driver"
)

func TestStartReasonIsForPeople(t *testing.T) {
	why := errors.New("there is no user \"x\" on this machine")
	for _, err := range []error{
		why,
		fmt.Errorf("start %q: %w", "claim/0", why),
		fmt.Errorf("start %q: %w: %w", "claim/0", driver.ErrInvalid, why),
		fmt.Errorf("start %q: %w %q: %w", "claim/0", driver.ErrInvalid, "claim/0", why),
	} {
		if got := startReason("claim/0", err); got != why.Error() {
			t.Errorf("%q became %q", err, got)
		}
	}
}
