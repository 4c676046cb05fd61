package selectors

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	servicelbv1 "github.com/damask-sdn/damask/proto/damask/servicelb/v1"
)

// A pod stays in the slice that it is in, as with Kubernetes' own controller: nodes
// get each slice's change by itself, and one that has a pod out of its old slice and
// not yet in its new one would cut it off. New pods fill the fullest slice that has
// room, or begin a new one; emptied slices go.

// sparse is how many times the slices that its endpoints need a group may have, before
// its emptiest one is dissolved.
const sparse = 2

// place is one slice of a group while it is filled.
type place struct {
	number    int // in its name
	endpoints []*servicelbv1.Endpoint
}

// places cuts a group's endpoints, which are in order of name, into slices, as near as
// can be to those that are stored. It answers them in order of number.
func (g *group) places(prefix string, stored []*servicelbv1.EndpointSlice) []*place {
	at := map[string]*place{} // by pod
	numbers := map[int]*place{}
	for _, slice := range slices.SortedFunc(slices.Values(stored), func(a, b *servicelbv1.EndpointSlice) int {
		return strings.Compare(a.GetName(), b.GetName())
	}) {
		number, ok := numberOf(slice.GetName(), prefix)
		if !ok {
			continue
		}
		p := &place{number: number}
		numbers[number] = p
		for _, e := range slice.GetEndpoints() {
			if name := e.GetTargetRef().GetName(); at[name] == nil {
				at[name] = p
			}
		}
	}
	var fresh []*servicelbv1.Endpoint
	for _, e := range g.endpoints {
		if p := at[e.GetTargetRef().GetName()]; p != nil && len(p.endpoints) < perSlice {
			p.endpoints = append(p.endpoints, e)
		} else {
			fresh = append(fresh, e)
		}
	}
	var all []*place
	for _, p := range numbers {
		if len(p.endpoints) > 0 {
			all = append(all, p)
		}
	}
	needed := (len(g.endpoints) + perSlice - 1) / perSlice
	for len(all) > sparse*needed {
		slices.SortFunc(all, emptiest)
		fresh, all = append(fresh, all[0].endpoints...), all[1:]
	}
	all = fill(all, fresh)
	slices.SortFunc(all, func(a, b *place) int { return a.number - b.number })
	for _, p := range all {
		slices.SortFunc(p.endpoints, byPod)
	}
	return all
}

// fill puts endpoints where there is room, the fullest first, and makes new places for
// what is left.
func fill(all []*place, fresh []*servicelbv1.Endpoint) []*place {
	slices.SortFunc(all, emptiest)
	slices.SortFunc(fresh, byPod)
	for _, p := range slices.Backward(all) {
		n := min(perSlice-len(p.endpoints), len(fresh))
		p.endpoints, fresh = append(p.endpoints, fresh[:n]...), fresh[n:]
	}
	taken := map[int]bool{}
	for _, p := range all {
		taken[p.number] = true
	}
	for number := 0; len(fresh) > 0; number++ {
		if taken[number] {
			continue
		}
		n := min(perSlice, len(fresh))
		all = append(all, &place{number, slices.Clone(fresh[:n])})
		fresh = fresh[n:]
	}
	return all
}

// emptiest orders places by their endpoints; of equals the last one counts as emptier.
func emptiest(a, b *place) int {
	if d := len(a.endpoints) - len(b.endpoints); d != 0 {
		return d
	}
	return b.number - a.number
}

func byPod(a, b *servicelbv1.Endpoint) int {
	return strings.Compare(a.GetTargetRef().GetName(), b.GetTargetRef().GetName())
}

// numberOf reads the number of a slice out of its name.
func numberOf(name, prefix string) (int, bool) {
	text, ok := strings.CutPrefix(name, prefix)
	if !ok {
		return 0, false
	}
	number, err := strconv.Atoi(text)
	return number, err == nil && number >= 0 && fmt.Sprint(number) == text
}
