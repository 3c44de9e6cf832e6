package image

import (
	"errors"
	"fmt"
	"sync"
)

const (
	// rememberedMax bounds the parts of trees that Trees remembers.
	rememberedMax = 500_000
	// invalidMax bounds the trees of which it remembers that they are none.
	invalidMax = 10_000
)

// Trees answers what of trees is here, over and over: what a manifest is made of
// never changes, so that only what is here is looked at again.
type Trees struct {
	store Store

	mu    sync.Mutex // guards what follows
	parts map[treeKey][]Part
	count int              // of parts
	whole map[treeKey]bool // seen whole, and nothing has gone since
	gone  uint64           // rises when a blob goes
	wrong map[treeKey]wrong
}

// wrong says why a tree is none. It is no longer than a line, whatever the manifest.
type wrong string

func (w wrong) Error() string { return string(w) }
func (wrong) Unwrap() error   { return ErrInvalid }

// treeKey is a root, and the architecture that the tree is cut down to.
type treeKey struct{ root, arch string }

// NewTrees is over a store.
func NewTrees(store Store) *Trees {
	return &Trees{store: store, parts: map[treeKey][]Part{}, whole: map[treeKey]bool{}, wrong: map[treeKey]wrong{}}
}

// Whole says whether all of a tree is here, or with arch what of it runs there.
func (t *Trees) Whole(root, arch string) bool {
	t.mu.Lock()
	whole := t.whole[treeKey{root, arch}]
	t.mu.Unlock()
	if whole {
		return true
	}
	tree, err := t.Tree(root, arch)
	return err == nil && tree.Whole()
}

// Tree is what of a tree is here; see Walk.
func (t *Trees) Tree(root, arch string) (Tree, error) {
	key := treeKey{root, arch}
	t.mu.Lock()
	parts, gone := t.parts[key], t.gone
	why, invalid := t.wrong[key]
	t.mu.Unlock()
	if invalid {
		return Tree{}, why
	}
	tree := Tree{Parts: parts}
	if parts == nil {
		var err error
		if tree, err = Walk(t.store, root, arch); err != nil {
			t.remember(key, err, gone)
			return Tree{}, err
		}
	} else {
		for _, p := range parts {
			if !t.store.Has(p.Digest) {
				tree.Missing = append(tree.Missing, p)
			}
		}
	}
	if !tree.Whole() {
		return tree, nil
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.count+len(tree.Parts) > rememberedMax {
		clear(t.parts) // whoever asks again pays for one walk
		clear(t.whole)
		t.count = 0
	}
	if t.parts[key] == nil {
		t.parts[key] = tree.Parts
		t.count += len(tree.Parts)
	}
	if t.gone == gone { // else something went while this looked
		t.whole[key] = true
	}
	return tree, nil
}

// remember keeps why a tree is none, which no other blob changes.
func (t *Trees) remember(key treeKey, err error, gone uint64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !errors.Is(err, ErrInvalid) || t.gone != gone {
		return
	}
	if len(t.wrong) >= invalidMax {
		clear(t.wrong)
	}
	t.wrong[key] = wrong(fmt.Sprintf("%.500s", err))
}

// Gone says that a blob is not here any more.
func (t *Trees) Gone(string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.gone++
	clear(t.whole)
	clear(t.wrong) // what went may have been rotten when it was read
}
