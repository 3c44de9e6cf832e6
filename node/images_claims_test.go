package node

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hansa-mesh/hansa/node/registry"
	"github.com/hansa-mesh/hansa/placement"
	"github.com/hansa-mesh/hansa/transport"
)

// A peer that says it holds everything, and gives nothing, is found out by the first
// that wants the file: after that clients are told to push it.
func TestHollowClaimIsNotBelievedTwice(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMesh(t, 3, 20*time.Millisecond)
		defer m.close()
		transport.HandleTyped(m.sites[1].node.link, methodHas, func(_ context.Context, _ string, q hasQuery) (hasAnswer, error) {
			return hasAnswer{Sizes: []int64{5}}, nil
		})
		nowhere := "sha256:" + fmt.Sprintf("%064d", 7)
		at := m.sites[0].node
		if _, err := at.findFile(t.Context(), nowhere); err != nil {
			t.Fatalf("nothing speaks against it yet: %v", err)
		}
		if err := (registryMesh{at}).Ensure(t.Context(), nowhere); !errors.Is(err, registry.ErrNotFound) {
			t.Errorf("clients hear %v", err)
		}
		if size, err := at.findFile(t.Context(), nowhere); !errors.Is(err, placement.ErrNotFound) {
			t.Errorf("the claim is believed again: %d bytes, %v", size, err)
		}
		loose := m.write(m.sites[2], "", []byte("loose")).Digest.String() // another's word counts
		if size, err := at.findFile(t.Context(), loose); err != nil || size != 5 {
			t.Errorf("found %d bytes, %v", size, err)
		}
	})
}

// What is noted of claims is bounded, and ends.
func TestClaimsAreBounded(t *testing.T) {
	var c claims
	for i := range claimsMax + 1 {
		c.hollow(fmt.Sprint(i), []string{"p"}, 0)
	}
	if len(c.until) > claimsMax || c.counts(fmt.Sprint(claimsMax), "p", claimsFor) || !c.counts(fmt.Sprint(claimsMax), "p", claimsFor+1) {
		t.Errorf("%d are noted", len(c.until))
	}
}
