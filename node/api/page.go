package api

import (
	"cmp"
	"encoding/base64"
	"encoding/json"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Limits of lists.
const (
	pageLimitDefault = 200
	pageLimitMax     = 1000
	cursorBytesMax   = 1024
	cursorKeyMax     = 512
)

// Page is a piece of a list: what comes after a key.
type Page struct {
	After string // the key of the last item that the client has; "" from the start
	Limit int    // at most so many items; always 1..1000 when a Backend sees it
}

// Listing is what a Backend answers for a Page.
type Listing[T any] struct {
	Items []T
	// AsOf says how old each peer's part of the list is, by peer id; the zero time is
	// of one that has never answered.
	AsOf map[string]time.Time
	// Next is the key of the last item when there are more, else "".
	Next string
}

// List is a list as the API answers it.
type List[T any] struct {
	Items  []T                  `json:"items"`
	AsOf   map[string]time.Time `json:"as_of" doc:"How old each peer's part of the list is, by peer id; the year 1 for one that is in reach and never answered"`
	Cursor string               `json:"cursor,omitempty" doc:"Where the list goes on; good at any peer. Absent at the end"`
}

// NewListing cuts a page out of all items, which may stand in any order. It is
// for lists that lie in memory anyway; key is called once for each item.
func NewListing[T any](items []T, key func(T) string, page Page, asOf map[string]time.Time) Listing[T] {
	type keyed struct {
		key   string
		index int
	}
	order := make([]keyed, 0, len(items))
	for i, item := range items {
		if k := key(item); page.After == "" || k > page.After {
			order = append(order, keyed{k, i})
		}
	}
	slices.SortFunc(order, func(a, b keyed) int { return cmp.Or(strings.Compare(a.key, b.key), a.index-b.index) })
	l := Listing[T]{AsOf: asOf}
	if page.Limit > 0 && len(order) > page.Limit {
		order = order[:page.Limit]
		l.Next = order[len(order)-1].key
	}
	l.Items = make([]T, len(order))
	for i, o := range order {
		l.Items[i] = items[o.index]
	}
	return l
}

// AllocationKey orders allocations by app, component, slot and id.
func AllocationKey(a Allocation) string {
	slot := strconv.Itoa(a.Slot)
	const zeros = "0000000000" // so that slot 10 stands after slot 9
	return a.Namespace + "/" + a.App + "/" + a.Component + "/" + zeros[:max(0, len(zeros)-len(slot))] + slot + "/" + a.ID
}

// AppKey orders apps, "namespace/app".
func AppKey(a App) string { return a.Namespace + "/" + a.App }

// cursor is what a cursor holds, as JSON in URL-safe base64.
type cursor struct {
	Version int    `json:"v"`
	Key     string `json:"k"`
}

const cursorVersion = 1

func encodeCursor(key string) string {
	if key == "" {
		return ""
	}
	data, _ := json.Marshal(cursor{cursorVersion, key}) // an int and a string: can't fail
	return base64.RawURLEncoding.EncodeToString(data)
}

func decodeCursor(text string) (string, error) {
	if text == "" {
		return "", nil
	}
	bad := func(why string) (string, error) {
		return "", &Problem{Kind: KindInvalid, Detail: "cursor: " + why, Errors: []FieldProblem{{
			Field: "cursor", Value: short(text), Message: why, Fix: "pass the cursor of the last answer as it is, or none to begin anew",
		}}}
	}
	if len(text) > cursorBytesMax {
		return bad("longer than any cursor that a peer gives")
	}
	data, err := base64.RawURLEncoding.DecodeString(text)
	if err != nil {
		return bad("not a cursor that a peer gave")
	}
	var c cursor
	if err := json.Unmarshal(data, &c); err != nil || c.Key == "" || len(c.Key) > cursorKeyMax {
		return bad("not a cursor that a peer gave")
	}
	if c.Version != cursorVersion {
		return bad("made by a peer of another version (" + strconv.Itoa(c.Version) + ")")
	}
	return c.Key, nil
}
