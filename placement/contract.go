package placement

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// This file is what a component may ask for whatever kind it is: its life
// (health, restarts, updates) and what it finds inside (files, secrets, volumes).

// Health says how it is found out whether a slot works. Exactly one of HTTP, TCP
// and Exec is set.
//
//	starting ──first success──▶ running ──Threshold failures──▶ unhealthy ──as many again──▶ restarted
//	   │                           ▲                                │
//	   └─StartPeriod over: counts  └──────────one success───────────┘
type Health struct {
	HTTP        *HTTPCheck `json:"http,omitempty"`
	TCP         *TCPCheck  `json:"tcp,omitempty"`
	Exec        *ExecCheck `json:"exec,omitempty"`
	StartPeriod Duration   `json:"start_period,omitempty"` // failures do not count before, or before the first success; default 30s
	Interval    Duration   `json:"interval,omitempty"`     // default 10s
	Timeout     Duration   `json:"timeout,omitempty"`      // of one check; default 5s
	Threshold   int        `json:"threshold,omitempty"`    // failures in a row; default 3
}

// HTTPCheck asks for a page; any status from 200 to 399 is healthy.
type HTTPCheck struct {
	Port string `json:"port,omitempty"` // by name; may be left out where there is one, and of a function
	Path string `json:"path,omitempty"` // default "/"
}

// TCPCheck opens a connection.
type TCPCheck struct {
	Port string `json:"port,omitempty"` // by name; may be left out where there is one
}

// ExecCheck runs a command inside; exit code 0 is healthy.
type ExecCheck struct {
	Command []string `json:"command"`
}

// Defaults of a Health.
const (
	HealthStartPeriod = 30 * time.Second
	HealthInterval    = 10 * time.Second
	HealthTimeout     = 5 * time.Second
	HealthThreshold   = 3
)

// WithDefaults is the check with its zero fields filled in.
func (h Health) WithDefaults() Health {
	fill := func(d *Duration, v time.Duration) {
		if *d == 0 {
			*d = Duration(v)
		}
	}
	fill(&h.StartPeriod, HealthStartPeriod)
	fill(&h.Interval, HealthInterval)
	fill(&h.Timeout, HealthTimeout)
	if h.Threshold == 0 {
		h.Threshold = HealthThreshold
	}
	return h
}

// Restart says how often a slot that ended is started again where it is before
// it is moved.
type Restart struct {
	Budget     *int     `json:"budget,omitempty"`      // restarts within Window; default 5
	Window     Duration `json:"window,omitempty"`      // default 5m
	Backoff    Duration `json:"backoff,omitempty"`     // before the first, doubled with each; default 1s
	BackoffMax Duration `json:"backoff_max,omitempty"` // default 30s
}

// Update says how a change of a component replaces its slots.
type Update struct {
	MaxUnavailable Amount    `json:"max_unavailable,omitzero"` // slots that may be missing meanwhile; default 25%
	MaxSurge       Amount    `json:"max_surge,omitzero"`       // slots that may run beyond those; default 25%
	MinHealthy     *Duration `json:"min_healthy,omitempty"`    // how long a new slot is healthy before it counts; default 10s
	Deadline       *Duration `json:"deadline,omitempty"`       // without progress; default 5m
	AutoRevert     *bool     `json:"auto_revert,omitempty"`    // go back when the deadline is over; default true
}

// Defaults of an Update.
const (
	UpdatePercent    = 25
	UpdateMinHealthy = 10 * time.Second
	UpdateDeadline   = 5 * time.Minute
)

// UpdatePolicy is how a component's slots are replaced, with every default
// filled in.
type UpdatePolicy struct {
	Unavailable int           // slots that the roll-out itself may leave without a copy that is healthy
	Surge       int           // slots that may be held twice
	StopFirst   bool          // no slot is ever held twice: it has a disk, or a right to run, of its own
	MinHealthy  time.Duration // until a new copy counts
	Deadline    time.Duration // without progress
	AutoRevert  bool
}

// UpdatePolicy is what holds for a component. Rounding favours what people have:
// max_unavailable down, max_surge up. Together they let one slot at least be
// replaced, and a max_unavailable that nobody wrote is at least 1: it is for
// where there is no room for a second copy.
func (c Component) UpdatePolicy() UpdatePolicy { return c.updateOf(c.Wanted()) }

// updateOf is the policy for so many slots: one side of a cut has fewer.
func (c Component) updateOf(n int) UpdatePolicy {
	u := Update{}
	if c.Update != nil {
		u = *c.Update
	}
	share := Amount{N: UpdatePercent, Percent: true}
	p := UpdatePolicy{
		Unavailable: max(1, share.Of(n, false)), Surge: share.Of(n, true),
		MinHealthy: UpdateMinHealthy, Deadline: UpdateDeadline, AutoRevert: u.AutoRevert == nil || *u.AutoRevert,
	}
	if u.MaxUnavailable.given() {
		p.Unavailable = u.MaxUnavailable.Of(n, false)
	}
	if u.MaxSurge.given() {
		p.Surge = u.MaxSurge.Of(n, true)
	}
	if p.StopFirst = len(c.Volumes) > 0 || c.Exclusive.On; p.StopFirst {
		p.Surge = 0
	}
	if p.Surge == 0 {
		p.Unavailable = max(1, p.Unavailable)
	}
	if u.MinHealthy != nil {
		p.MinHealthy = time.Duration(*u.MinHealthy)
	}
	if u.Deadline != nil {
		p.Deadline = time.Duration(*u.Deadline)
	}
	return p
}

// given says whether somebody wrote the amount.
func (a Amount) given() bool { return a.Set || a.N != 0 || a.Percent }

// Amount is a number of slots, or a share of them in percent.
type Amount struct {
	N       int  `json:"n,omitempty"`
	Percent bool `json:"p,omitempty"`
	Set     bool `json:"s,omitempty"` // 0 was written, and not left out
}

// Of is the number of n slots that the amount is; a share is rounded down, but
// for up.
func (a Amount) Of(n int, up bool) int {
	switch {
	case !a.Percent:
		return a.N
	case up:
		return (a.N*n + 99) / 100
	}
	return a.N * n / 100
}

// String is "3" or "25%".
func (a Amount) String() string {
	if a.Percent {
		return strconv.Itoa(a.N) + "%"
	}
	return strconv.Itoa(a.N)
}

// MarshalJSON writes 3 or "25%".
func (a Amount) MarshalJSON() ([]byte, error) {
	if a.Percent {
		return json.Marshal(a.String())
	}
	return json.Marshal(a.N)
}

// UnmarshalJSON reads 3 or "25%".
func (a *Amount) UnmarshalJSON(data []byte) error {
	*a = Amount{Set: true}
	text := string(data)
	if len(data) > 0 && data[0] == '"' {
		if err := json.Unmarshal(data, &text); err != nil {
			return err
		}
		text, a.Percent = strings.CutSuffix(text, "%")
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 0 || n > SlotsMax || a.Percent && n > 100 {
		return fmt.Errorf("%s is not an amount: write for instance 1 or \"25%%\"", clip(string(data)))
	}
	a.N = n
	return nil
}

// File is a small file that a slot finds. Its bytes travel with the app.
type File struct {
	Content string `json:"content"`
	Mode    string `json:"mode,omitempty"` // octal; default "0644"
}

// SecretUse is where a slot finds a secret: a variable, a file, or both.
type SecretUse struct {
	Env  string `json:"env,omitempty"`
	File string `json:"file,omitempty"` // path inside
	Mode string `json:"mode,omitempty"` // of the file, octal; default "0400"
}

// Volume is a folder (of a virtual machine, a disk) of one slot at one host,
// which outlives its allocations there.
type Volume struct {
	Path string `json:"path"` // inside; of a virtual machine the disk's serial number is the volume's name
	Size Bytes  `json:"size"` // counted as disk
}

// FileMode reads an octal mode; empty is def.
func FileMode(text string, def uint32) (uint32, error) {
	if text == "" {
		return def, nil
	}
	n, err := strconv.ParseUint(text, 8, 32)
	if err != nil || n > 0o777 {
		return 0, fmt.Errorf("%q is not a mode: write for instance \"0644\"", clip(text))
	}
	return uint32(n), nil
}
