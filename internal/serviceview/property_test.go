package serviceview_test

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/damask-sdn/damask/internal/serviceview"
	servicelbv1 "github.com/damask-sdn/damask/proto/damask/servicelb/v1"
)

// drawSlices draws up to four slices with few addresses, so that they overlap.
func drawSlices(t *testing.T, rt *rapid.T) []*servicelbv1.EndpointSlice {
	places := rapid.SampledFrom([]string{"", "@n1/z1", "@n2/z1", "@n3/z2"})
	states := rapid.SampledFrom([]string{"", " ready", " unready", " terminating", " dying"})
	hints := rapid.SampledFrom([]string{"", "", " zones=z1", " zones=z2", " nodes=n1", " zones=z1 nodes=n2"})
	var list []*servicelbv1.EndpointSlice
	for i := range rapid.IntRange(0, 4).Draw(rt, "slices") {
		var texts []string
		for range rapid.IntRange(0, 5).Draw(rt, "endpoints") {
			texts = append(texts, fmt.Sprint(rapid.IntRange(1, 6).Draw(rt, "number"), places.Draw(rt, "place"), states.Draw(rt, "state"), hints.Draw(rt, "hints")))
		}
		s := slice(t, texts...)
		s.Name = fmt.Sprintf("web-%d", i)
		list = append(list, s)
	}
	return list
}

func drawService(rt *rapid.T) *servicelbv1.Service {
	return web(func(s *servicelbv1.Service) {
		policy := rapid.SampledFrom([]servicelbv1.TrafficPolicy{cluster, local})
		s.InternalTrafficPolicy, s.ExternalTrafficPolicy = policy.Draw(rt, "internal"), policy.Draw(rt, "external")
		s.TrafficDistribution = servicelbv1.TrafficDistribution(rapid.Int32Range(0, 3).Draw(rt, "distribution"))
		s.PublishNotReadyAddresses = rapid.Bool().Draw(rt, "publish")
	})
}

func TestTheOrderOfSlicesAndEndpointsDoesNotMatter(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		service, list := drawService(rt), drawSlices(t, rt)
		want, err := serviceview.Compute(service, list, looking)
		if err != nil {
			rt.Fatal(err)
		}
		for _, s := range list {
			s.Endpoints = rapid.Permutation(s.Endpoints).Draw(rt, "endpoints")
		}
		got, err := serviceview.Compute(service, rapid.Permutation(list).Draw(rt, "slices"), looking)
		if err != nil || !reflect.DeepEqual(got, want) {
			rt.Fatalf("got  %+v, %v\nwant %+v", got, err, want)
		}
	})
}

func TestWhatHoldsForEveryView(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		service, list := drawService(rt), drawSlices(t, rt)
		v, err := serviceview.Compute(service, list, looking)
		if err != nil {
			rt.Fatal(err)
		}
		p := v.Ports[0]
		if p.Any != (len(p.Anywhere) > 0) {
			rt.Fatalf("any is %v, and there are %v: a service with backends must have some to use", p.Any, p.Anywhere)
		}
		for _, set := range [][]serviceview.Backend{p.Internal, p.External, p.Anywhere} {
			draining := 0
			for i, b := range set {
				if i > 0 && set[i-1].Address.Compare(b.Address) >= 0 {
					rt.Fatalf("not in order, or twice: %v", set)
				}
				if b.Draining {
					draining++
				}
			}
			if draining != 0 && draining != len(set) {
				rt.Fatalf("draining ones among ready ones: %v", set)
			}
		}
		for _, b := range slices.Concat(onlyIf(v.InternalLocal, p.Internal), onlyIf(v.ExternalLocal, p.External)) {
			if !b.Local || b.Node != looking.Name {
				rt.Fatalf("policy Local, and a backend elsewhere: %v", b)
			}
		}
	})
}

func onlyIf(yes bool, list []serviceview.Backend) []serviceview.Backend {
	if yes {
		return list
	}
	return nil
}

// TestABookAnswersWhatComputeAnswers feeds a book with random changes, and
// compares each view with one computed from what is there.
func TestABookAnswersWhatComputeAnswers(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		book := serviceview.NewBook()
		services, stored := map[string]*servicelbv1.Service{}, map[string]*servicelbv1.EndpointSlice{}
		name := rapid.SampledFrom([]string{"web", "db"})
		rt.Repeat(map[string]func(*rapid.T){
			"set service": func(rt *rapid.T) {
				s := drawService(rt)
				s.Name = name.Draw(rt, "name")
				services[s.Name] = s
				book.SetService(s)
			},
			"delete service": func(rt *rapid.T) {
				n := name.Draw(rt, "name")
				delete(services, n)
				book.DeleteService(serviceview.Name{Namespace: "shop", Service: n})
			},
			"set slice": func(rt *rapid.T) {
				for _, s := range drawSlices(t, rt) {
					s.ServiceName = name.Draw(rt, "owner")
					former := stored[s.Name]
					stored[s.Name] = s
					concerned := book.SetSlice(s)
					if moved := former != nil && former.ServiceName != s.ServiceName; moved != (len(concerned) == 2) {
						rt.Fatalf("concerned: %v", concerned)
					}
				}
			},
			"delete slice": func(rt *rapid.T) {
				n := fmt.Sprintf("web-%d", rapid.IntRange(0, 4).Draw(rt, "slice"))
				former := stored[n]
				delete(stored, n)
				if owner, known := book.DeleteSlice("shop", n); known != (former != nil) || owner.Service != former.GetServiceName() {
					rt.Fatalf("%s: %v, %v", n, owner, known)
				}
			},
			"": func(rt *rapid.T) {
				if len(book.Names()) != len(services) {
					rt.Fatalf("names %v", book.Names())
				}
				for _, n := range []string{"web", "db"} {
					var own []*servicelbv1.EndpointSlice
					for _, s := range stored {
						if s.ServiceName == n {
							own = append(own, s)
						}
					}
					got, found, err := book.View(serviceview.Name{Namespace: "shop", Service: n}, looking)
					if err != nil || found != (services[n] != nil) {
						rt.Fatalf("view of %s: %v, %v", n, found, err)
					}
					if !found {
						continue
					}
					want, err := serviceview.Compute(services[n], own, looking)
					if err != nil || !reflect.DeepEqual(got, want) {
						rt.Fatalf("got %+v\nwant %+v", got, want)
					}
				}
			},
		})
	})
}

func BenchmarkComputeOfThreeEndpoints(b *testing.B) {
	t := &testing.T{}
	service, list := web(), []*servicelbv1.EndpointSlice{slice(t, strings.Split("1@n1;2@n2;3@n3", ";")...)}
	for b.Loop() {
		if _, err := serviceview.Compute(service, list, looking); err != nil {
			b.Fatal(err)
		}
	}
}
