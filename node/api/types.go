package api

import (
	"time"

	"github.com/hansa-mesh/hansa/placement"
)

// PeerRef names a peer for people and programs alike.
type PeerRef struct {
	ID   string `json:"id" doc:"Hash of the peer's key"`
	Name string `json:"name,omitempty" doc:"Label, unique in the mesh"`
	Site string `json:"site,omitempty"`
}

// Position is a place on Earth, in degrees.
type Position struct {
	Lat float64 `json:"lat"`
	Lon float64 `json:"lon"`
}

// Mesh is the mesh as the answering peer sees it.
type Mesh struct {
	Self    PeerRef   `json:"self"`
	Root    string    `json:"root" doc:"Fingerprint of the mesh's root key"`
	Version string    `json:"version" doc:"Of the answering peer"`
	Settled bool      `json:"settled" doc:"No suspect, tables equal with every peer alive, nothing missing, extra or open in what this peer drives"`
	Since   time.Time `json:"settled_since,omitzero" doc:"Since when it has been settled; looked at every second"`
	Open    []string  `json:"open,omitempty" doc:"What is still to be done before the mesh is settled, in words"`
	Unheard []Unheard `json:"unheard,omitempty" doc:"Peers that this peer does not hear"`
	Counts  Counts    `json:"counts"`
	AsOf    time.Time `json:"as_of"`
}

// Unheard is a peer that was not heard for a while.
type Unheard struct {
	PeerRef
	State string    `json:"state" doc:"suspect, dead or left"`
	Since time.Time `json:"since,omitzero"`
}

// Counts are the sizes of a mesh.
type Counts struct {
	Peers       map[string]int `json:"peers" doc:"By state: alive, suspect, dead, left"`
	Sites       int            `json:"sites"`
	Hosts       int            `json:"hosts"`
	Apps        int            `json:"apps"`
	Allocations int            `json:"allocations" doc:"Running slots, as far as is known here"`
	Conflicts   int            `json:"conflicts"`
}

// Peer is one running daemon as the answering peer sees it.
type Peer struct {
	ID          string              `json:"id"`
	Name        string              `json:"name"`
	Site        string              `json:"site"`
	Self        bool                `json:"self,omitempty" doc:"The peer that answers"`
	State       string              `json:"state" enum:"alive,suspect,dead,left,forgotten,unknown"`
	Since       time.Time           `json:"since,omitzero" doc:"Of the state"`
	Address     string              `json:"address,omitempty" doc:"Where other peers reach it"`
	RTTMillis   *float64            `json:"rtt_ms,omitempty" doc:"Round trip from the answering peer"`
	Incarnation uint64              `json:"incarnation,omitempty" doc:"Of its store"`
	Version     string              `json:"version,omitempty"`
	Labels      map[string]string   `json:"labels,omitempty"`
	Position    *Position           `json:"position,omitempty"`
	Drivers     []string            `json:"drivers,omitempty"`
	DriverFacts []HostDriver        `json:"-"`
	Arch        []string            `json:"arch,omitempty"`
	Capacity    placement.Resources `json:"capacity,omitzero"`
	Free        placement.Resources `json:"free,omitzero"`
	GPUs        []placement.FreeGPU `json:"gpus,omitempty" doc:"What is left of each device"`
	Hosts       int                 `json:"hosts,omitempty" doc:"How many it has, where that is more than its own machine: what it has is the sum"`
	Slots       int                 `json:"slots" doc:"Held now"`
	Price       float64             `json:"price,omitempty"`
	Full        string              `json:"full,omitempty" doc:"Why it takes no new work"`
	Note        string              `json:"note,omitempty" doc:"What a person should know, for instance a name that two keys claim"`
	AsOf        time.Time           `json:"as_of,omitzero" doc:"Of what is known about it"`
}

// Site is a region or an edge location.
type Site struct {
	Name       string              `json:"name"`
	State      string              `json:"state" enum:"up,degraded,unreachable" doc:"All, some or none of its peers are in reach"`
	Peers      int                 `json:"peers"`
	PeersAlive int                 `json:"peers_alive"`
	Hosts      int                 `json:"hosts"`
	Labels     map[string]string   `json:"labels,omitempty"`
	Position   *Position           `json:"position,omitempty"`
	Capacity   placement.Resources `json:"capacity,omitzero"`
	Free       placement.Resources `json:"free,omitzero"`
	Slots      int                 `json:"slots"`
	RTTMillis  *float64            `json:"rtt_ms,omitempty" doc:"Round trip from the answering peer to the nearest peer there"`
	AsOf       time.Time           `json:"as_of,omitzero" doc:"Of the oldest part"`
}

// Host is something that runs work and belongs to one peer.
type Host struct {
	ID       string              `json:"id"`
	Peer     string              `json:"peer"`
	PeerName string              `json:"peer_name,omitempty"`
	Site     string              `json:"site"`
	State    string              `json:"state" enum:"ready,cordoned,full,unreachable"`
	Reason   string              `json:"reason,omitempty"`
	Arch     string              `json:"arch"`
	Drivers  []HostDriver        `json:"drivers"`
	ProbedAt time.Time           `json:"probed_at,omitzero" doc:"When drivers were looked at; none: they are from the peer's digest, which says less"`
	Labels   map[string]string   `json:"labels,omitempty"`
	Capacity placement.Resources `json:"capacity,omitzero"`
	GPUs     []placement.FreeGPU `json:"gpus,omitempty" doc:"What is left of each device"`
	Free     placement.Resources `json:"free,omitzero"`
	Slots    int                 `json:"slots"`
	AsOf     time.Time           `json:"as_of,omitzero"`
}

// HostDriver is a runtime at a host, offered or not.
type HostDriver struct {
	Name      string `json:"name"`
	Available bool   `json:"available"`
	Version   string `json:"version,omitempty"`
	Reason    string `json:"reason,omitempty" doc:"Why it is not offered, and what to do about it"`

	Kinds    []string               `json:"kinds,omitempty" doc:"Of component that it serves"`
	Runtimes []string               `json:"runtimes,omitempty"`
	Limits   map[string]DriverLimit `json:"limits,omitempty" doc:"By resource"`
	Fence    bool                   `json:"fence,omitempty" doc:"It can end work at a deadline by itself, and so run exclusive slots"`
	Survives bool                   `json:"survives,omitempty" doc:"Its work outlives the daemon"`
}

// VersionInfo says what build answers.
type VersionInfo struct {
	Version string `json:"version"`
	Commit  string `json:"commit,omitempty"`
	Go      string `json:"go,omitempty"`
	OS      string `json:"os,omitempty"`
	Arch    string `json:"arch,omitempty"`
	Schema  int    `json:"schema" doc:"Newest schema of intents that this build understands"`
}

// InviteRequest asks for a token that lets one newcomer in.
type InviteRequest struct {
	_ struct{} `additionalProperties:"false"`

	Name     string             `json:"name" minLength:"1" maxLength:"63" pattern:"^[a-z0-9]([a-z0-9.-]*[a-z0-9])?$" patternDescription:"lower-case letters, digits, dots and hyphens" doc:"Name of the peer that is invited"`
	Site     string             `json:"site,omitempty" maxLength:"63" doc:"Site that it must belong to; empty for any"`
	Replaces string             `json:"replaces,omitempty" maxLength:"128" doc:"Id or name of a lost peer whose place it takes"`
	TTL      placement.Duration `json:"ttl,omitempty" doc:"How long the token is good; default 1h"`
}

// Invite is a token that lets one newcomer in, once.
type Invite struct {
	Token   string    `json:"token"`
	Name    string    `json:"name"`
	Root    string    `json:"root" doc:"Fingerprint of the mesh's root key"`
	Address []string  `json:"address" doc:"Where to join, host:port over UDP"`
	Expires time.Time `json:"expires"`
}

// Event is something that happened.
type Event struct {
	ID        string    `json:"id" doc:"Opaque; good as Last-Event-ID at the peer that gave it"`
	At        time.Time `json:"at"`
	Type      string    `json:"type"`
	Peer      string    `json:"peer,omitempty" doc:"The peer that it is about"`
	PeerName  string    `json:"peer_name,omitempty"`
	Site      string    `json:"site,omitempty"`
	Namespace string    `json:"namespace,omitempty"`
	App       string    `json:"app,omitempty"`
	UID       string    `json:"uid,omitempty"`
	Component string    `json:"component,omitempty"`
	Slots     string    `json:"slots,omitempty" doc:"A set: 0-5,8"`
	Message   string    `json:"message"`
}
