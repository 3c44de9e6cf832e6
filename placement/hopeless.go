package placement

import "math/rand/v2"

// failsEverywhere says whether a plan that found no place never will, for all that is
// known: the component failed for good at a peer, and each other that may run it,
// however much room there is and whatever else it waits for, said the same.
func (s *Steward) failsEverywhere(in PlanInput) bool {
	name, failed := in.Component, map[PeerID]string{}
	for id, r := range s.a.rows {
		if s.failedAt(name, id) && r.report.FailedFinal[name] {
			failed[id] = r.report.failedWhy(name)
		}
	}
	if len(failed) == 0 {
		return false
	}
	comp := in.App.Components[name]
	comp.Resources, comp.Volumes, comp.Place.Near = Resources{}, nil, nil
	free := PlanInput{App: in.App.with(name, comp), Component: name, Slots: SlotsOf(0), Refused: failed, Rand: rand.New(rand.NewPCG(0, 0))}
	for _, c := range in.Candidates {
		c.Digest.Full = "" // it may take work again
		free.Candidates = append(free.Candidates, c)
	}
	return len(Plan(free).Assign) == 0
}
