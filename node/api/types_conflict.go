package api

import (
	"time"

	"github.com/hansa-mesh/hansa/placement"
)

// Side is one version of an app in a conflict.
type Side struct {
	Number   int               `json:"number" doc:"1 is the side that lost slots follow meanwhile"`
	Revision string            `json:"revision"`
	UID      string            `json:"uid" doc:"Differs where two apps were made under one name"`
	Peer     PeerRef           `json:"peer" doc:"Where it was accepted"`
	At       time.Time         `json:"at"`
	Alone    bool              `json:"alone,omitempty" doc:"It was accepted below a majority of its keepers"`
	Removed  bool              `json:"removed,omitempty" doc:"This side removed the app"`
	Running  map[string]string `json:"running,omitempty" doc:"By component, the slots that run as this side describes them: 0-5,8"`
	Summary  string            `json:"summary,omitempty" doc:"How it differs, in words"`
	Spec     placement.App     `json:"spec,omitzero"`
}

// Conflict is an app of which more than one version stands.
type Conflict struct {
	ID        string      `json:"id" doc:"Names the app and its sides: another when a side is added"`
	Namespace string      `json:"namespace"`
	App       string      `json:"app"`
	UID       string      `json:"uid"`
	ETag      string      `json:"etag" doc:"Covers all sides: good for If-Match"`
	Since     time.Time   `json:"since,omitzero"`
	Sides     []Side      `json:"sides"`
	Fields    []FieldDiff `json:"fields,omitempty" doc:"What the sides do not agree on"`
}

// FieldDiff is one field of a manifest that differs between the sides of a
// conflict.
type FieldDiff struct {
	Field  string `json:"field" doc:"For instance components.api.replicas"`
	Values []any  `json:"values" doc:"Of each side, in their order; null where it has none"`
}

// ResolveRequest decides a conflict: one of its fields is set.
type ResolveRequest struct {
	Take string         `json:"take,omitempty" doc:"Revision of the side that stands from now on"`
	App  *placement.App `json:"app,omitempty" doc:"Or a manifest that does, made of the sides"`
}

// ResolveResult is the answer to a ResolveRequest.
type ResolveResult struct {
	PutResult
	Removed bool `json:"removed,omitempty" doc:"The side that stands removed the app"`
}

// ForceResult says what became of the keepers that a peer was one of.
type ForceResult struct {
	Peer    PeerRef      `json:"peer"`
	Forced  []AppName    `json:"forced" doc:"Apps whose keepers were changed over its head"`
	Refused []AppRefusal `json:"refused,omitempty" doc:"Apps whose keepers were left as they are"`
}

// AppName names an app.
type AppName struct {
	Namespace string `json:"namespace"`
	App       string `json:"app"`
}

// String is "namespace/app".
func (a AppName) String() string { return a.Namespace + "/" + a.App }

// AppRefusal is an app, and why nothing was done about it.
type AppRefusal struct {
	AppName
	Reason string `json:"reason"`
}
