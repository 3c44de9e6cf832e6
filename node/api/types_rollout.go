package api

import (
	"time"

	"github.com/hansa-mesh/hansa/placement"
)

// RolloutStatus is how the last change of a component is being rolled out.
type RolloutStatus struct {
	State    string    `json:"state" enum:"going,done,stalled,reverted" doc:"stalled: nothing came of it until its deadline, and it stopped; reverted: and slots run again as they did before"`
	Why      string    `json:"why,omitempty" doc:"Of one that waits, stalled or was reverted"`
	Revision string    `json:"revision" doc:"What is rolled out"`
	Updated  int       `json:"updated" doc:"Slots that have a copy as is wanted; of a reverted one, as before"`
	Settled  int       `json:"settled" doc:"Of them, healthy for min_healthy"`
	Wanted   int       `json:"wanted"`
	Began    time.Time `json:"began"`
	Deadline time.Time `json:"deadline,omitzero" doc:"When it is over if no slot more becomes healthy until then"`
	Previous string    `json:"previous,omitempty" doc:"The revision that slots went back to, or would; none for a first deploy"`
}

// Revision is a version of an app that people deployed.
type Revision struct {
	Number   int           `json:"number"`
	Revision string        `json:"revision"`
	At       time.Time     `json:"at"`
	By       PeerRef       `json:"by" doc:"The peer that wrote it"`
	Change   string        `json:"change" doc:"Against the one before it, by component and field"`
	Current  bool          `json:"current,omitempty" doc:"It is what is wanted"`
	InUse    []string      `json:"in_use,omitempty" doc:"Components that run as it says although another is wanted, since the roll-out of that was reverted"`
	Spec     placement.App `json:"spec"`
}

// RollbackBody is what a rollback goes back to.
type RollbackBody struct {
	Revision string `json:"revision,omitempty" maxLength:"256" doc:"A number or a revision of the app's history; none is the one before the current"`
}

// Rollback is a person's wish to have an earlier revision again.
type Rollback struct {
	Key            placement.AppKey
	Revision       string
	IfMatch        string // an ETag without quotes, "*" or ""
	IdempotencyKey string
	MinCopies      int
}
