package placement

import (
	"fmt"
)

// This file is about intents that run nothing: names of images and policies of
// namespaces. They are held by their keepers, versioned, compared and in conflict
// like apps, and are never shown among them.

// recorded says whether an app is such an intent.
func (a App) recorded() bool { return a.Image != nil || a.Policy != nil }

// Recorded says whether a key is that of an intent that runs nothing.
func (k AppKey) Recorded() bool {
	return k.Namespace == NamespaceImages || k.Namespace == NamespacePolicies
}

// recordedRounds is how many slow rounds of an app its steward looks at one once:
// there may be thousands.
const recordedRounds = 6

// quiet says whether a steward has nothing to look at before its next round.
func (s *Steward) quiet() bool {
	return s.a.key.Recorded() && s.phase == phaseActing && len(s.open) == 0 && !s.deputy && s.p.out.now.Mono < s.next
}

// keyBytesMax bounds the name part of a key.
const keyBytesMax = repositoryMax + 1 + len("sha512:") + 128

// checkRecorded says what is wrong with an intent that runs nothing, or nil.
func (a App) checkRecorded(lenient bool) error {
	var err error
	var key AppKey
	switch {
	case a.Image != nil && a.Policy != nil || len(a.Components) > 0:
		return fmt.Errorf("%w: it is an image, a policy or an app, and one of them alone", ErrInvalid)
	case a.Image != nil:
		key, err = a.Image.Key(), a.Image.check()
	default:
		key, err = a.Policy.Key(), a.Policy.check(lenient)
	}
	if err == nil && key != a.Key() {
		err = fmt.Errorf("%s: %w: it is kept under %s", a.Key(), ErrInvalid, key)
	}
	return err
}

// differs says whether a name stands for several things. Of policies all hold
// together, and that is no conflict.
func (p *Peer) differs(key AppKey) bool {
	first := ""
	for uid := range p.byKey[key] {
		for i := range p.apps[uid].versions {
			v := &p.apps[uid].versions[i].intent
			if v.Removed || v.App.Image == nil {
				continue
			}
			if first != "" && first != v.App.Image.Digest {
				return true
			}
			first = v.App.Image.Digest
		}
	}
	return false
}

// joined is what an intent that runs nothing becomes of sides that stand side by
// side, newest first: the one thing that they name, or a policy under which all
// hold. Which of several images a name is for is a person's to say.
func joined(sides []*Intent) (App, bool) {
	app := sides[0].App
	var policies []NamespacePolicy
	for _, s := range sides {
		switch {
		case app.Image != nil && (s.App.Image == nil || s.App.Image.Digest != app.Image.Digest):
			return App{}, false
		case app.Policy != nil && s.App.Policy == nil:
			return App{}, false
		case app.Policy != nil:
			policies = append(policies, *s.App.Policy)
		}
	}
	if app.Policy == nil {
		return app, true
	}
	all := strictest(app.Policy.Namespace, policies)
	return all.App(), len(all.Signatures) <= signaturesMax
}

// submitted says what is wrong with what a node submits.
func (a App) submitted(artifacts []Artifact) error {
	if !a.recorded() {
		return a.Validate()
	}
	if err := a.checkRecorded(false); err != nil {
		return err
	}
	return a.checkTree(artifacts)
}

// archMax bounds the name of an architecture.
const archMax = 32

// checkTree holds the artifacts of a name against it: the tree of its manifest, whole
// or what the mesh has of it for some architectures, and that alone.
func (a App) checkTree(artifacts []Artifact) error {
	if a.Image == nil {
		if len(artifacts) > 0 {
			return fmt.Errorf("%s: %w: it has no artifacts", a.Key(), ErrInvalid)
		}
		return nil
	}
	archs := map[string]bool{}
	for _, art := range artifacts {
		if !art.Tree || art.Digest != a.Image.Digest || len(art.Arch) > archMax || archs[art.Arch] {
			return fmt.Errorf("%s: %w: its artifact is the tree of %s, whole or once for each architecture, and nothing else", a.Key(), ErrInvalid, a.Image.Digest)
		}
		archs[art.Arch] = true
	}
	if len(archs) == 0 || len(archs) > packageFilesMax || archs[""] && len(archs) > 1 {
		return fmt.Errorf("%s: %w: its artifact is the tree of %s, whole or for 1 to %d architectures", a.Key(), ErrInvalid, a.Image.Digest, packageFilesMax)
	}
	return nil
}
