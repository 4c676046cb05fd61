package registry

import (
	"errors"
	"fmt"
	"maps"
	"strings"
	"sync/atomic"
	"testing"

	"pgregory.net/rapid"

	"github.com/damask-sdn/damask/internal/bucket"
	tenancyv1 "github.com/damask-sdn/damask/proto/damask/tenancy/v1"
)

// foreignOf is a reported pod as the cluster tells of it.
func foreignOf(report *tenancyv1.Pod) *tenancyv1.Pod {
	return &tenancyv1.Pod{Namespace: report.GetNamespace(), Name: report.GetName(), Node: report.GetNode(), Ips: report.GetIps(), Uid: "uid of " + report.GetName()}
}

func tell(t *testing.T, r *Registry, pods ...*tenancyv1.Pod) {
	t.Helper()
	for _, p := range pods {
		if err := r.PutForeign(soon(t), foreignOf(p)); err != nil {
			t.Fatal(err)
		}
	}
}

// TestANodesFirstReportReplacesWhatTheClusterToldWithoutAGap takes a node with more pods
// than one commit can write. The last two have ended when it reports.
func TestANodesFirstReportReplacesWhatTheClusterToldWithoutAGap(t *testing.T) {
	var removed atomic.Int32
	all := replicasTelling(t, 2, func(changes []bucket.Change) {
		for _, c := range changes {
			if c.Deleted && strings.HasPrefix(c.Key, kind+".") {
				removed.Add(1)
			}
		}
	})
	a, b := all[0], all[1]
	pods := podsOn("n1", chunk+4)
	tell(t, a, pods...)
	if n := len(a.Foreign("n1")); n != chunk+4 || a.IsReported("n1") || len(a.Nodes()) != 0 {
		t.Fatalf("%d foreign pods; nodes of which agents reported: %v", n, a.Nodes())
	}
	lives := pods[:chunk+2]
	if got := report(t, b, "n1", lives); got != (Counts{Written: chunk + 2, Removed: 2}) {
		t.Errorf("the report changed %+v", got)
	}
	if got := removed.Load(); got > 2*2 {
		t.Errorf("%d removals were seen by two replicas, of 2 pods", got)
	}
	if foreign := b.Foreign("n1"); len(foreign) != 0 || !b.IsReported("n1") {
		t.Errorf("foreign are still %v", foreign)
	}
	tell(t, b, pods...)
	if n := len(b.index.OfNode("n1")); n != chunk+2 {
		t.Errorf("what the cluster tells of a node that has reported counts: %d pods", n)
	}
}

func TestANodeWithoutPodsHasReportedToo(t *testing.T) {
	r := replicas(t, 1)[0]
	tell(t, r, podOn("n1", 0))
	report(t, r, "n1", nil)
	tell(t, r, podOn("n1", 1))
	if names := r.index.OfNode("n1"); len(names) != 0 {
		t.Errorf("it has pods %v", names)
	}
	before := r.bucket.Snapshot().Sequence()
	report(t, r, "n1", nil)
	if after := r.bucket.Snapshot().Sequence(); after != before {
		t.Error("the same report again was written")
	}
	t.Run("until it is gone for good", func(t *testing.T) {
		if got := drop(t, r, suspect(t, r, "n1")); got != 0 {
			t.Errorf("%d pods were dropped", got)
		}
		if r.IsReported("n1") || len(r.Nodes()) != 0 {
			t.Errorf("nodes of which agents reported: %v", r.Nodes())
		}
		tell(t, r, podOn("n1", 1))
		if names := r.Foreign("n1"); len(names) != 1 {
			t.Errorf("the next node of that name has foreign pods %v", names)
		}
		if _, any, err := r.Suspect(soon(t), "n1"); any || err != nil {
			t.Errorf("a node that has only foreign pods is suspected: %t, %v", any, err)
		}
	})
}

// TestAPodOfUnknownUIDIsRecalledByItsAddress is about pods that the runtime tells no UID of.
func TestAPodOfUnknownUIDIsRecalledByItsAddress(t *testing.T) {
	r := replicas(t, 1)[0]
	told := foreignOf(podOn("n1", 0))
	told.Labels = map[string]string{"app": "web"}
	if err := r.PutForeign(soon(t), told); err != nil {
		t.Fatal(err)
	}
	for what, c := range map[string]struct {
		change func(*tenancyv1.Pod)
		want   bool
	}{
		"the same":          {func(*tenancyv1.Pod) {}, true},
		"by its UID":        {func(p *tenancyv1.Pod) { p.Uid, p.Ips = told.GetUid(), []string{"10.128.0.9"} }, true},
		"another UID":       {func(p *tenancyv1.Pod) { p.Uid = "another" }, false},
		"another address":   {func(p *tenancyv1.Pod) { p.Ips = []string{"10.128.0.9"} }, false},
		"on another node":   {func(p *tenancyv1.Pod) { p.Node = "n2" }, false},
		"of another name":   {func(p *tenancyv1.Pod) { p.Name = "other" }, false},
		"another namespace": {func(p *tenancyv1.Pod) { p.Namespace = "other" }, false},
	} {
		report := podOn("n1", 0)
		c.change(report)
		if got := r.Recall(report); got != c.want || got != (report.GetLabels()["app"] == "web") {
			t.Errorf("%s: recalled %t with labels %v", what, got, report.GetLabels())
		}
	}
}

// errAsItShould is of a report that is refused, as it should be.
var errAsItShould = errors.New("refused as it should be")

// TestTheClustersWordCountsOnlyWhereNoAgentHasSpoken draws what agents and the cluster say,
// to any of two replicas, and compares with rules that are told in other words.
func TestTheClustersWordCountsOnlyWhereNoAgentHasSpoken(t *testing.T) {
	all := replicas(t, 2)
	var runs atomic.Int32
	rapid.Check(t, func(rt *rapid.T) {
		run := fmt.Sprintf("r%d", runs.Add(1))
		type pod struct{ node, sandbox, ip string } // no sandbox: foreign
		stored, reported := map[Name]pod{}, map[string]bool{}
		draw := func() (Name, pod) {
			name := Name{run, rapid.SampledFrom([]string{"a", "b", "c"}).Draw(rt, "pod")}
			return name, pod{
				node:    run + rapid.SampledFrom([]string{"n1", "n2"}).Draw(rt, "node"),
				sandbox: rapid.SampledFrom([]string{"s1", "s2"}).Draw(rt, "sandbox"),
				ip:      rapid.SampledFrom([]string{"10.128.0.2", "10.128.0.3"}).Draw(rt, "ip"),
			}
		}
		message := func(name Name, p pod) *tenancyv1.Pod {
			return &tenancyv1.Pod{Namespace: name.Namespace, Name: name.Pod, Node: p.node, SandboxId: p.sandbox, Ips: []string{p.ip}}
		}
		// refused is an error of a report of one pod: whether it is one is known beforehand.
		refused := func(err error, node string) error {
			should := false
			for _, p := range stored {
				should = should || p.node == node && p.sandbox == "" && !reported[node]
			}
			var first *ReportFirstError
			if got := errors.As(err, &first); got != should {
				return fmt.Errorf("a report of one pod of %s: %w, refused it should be: %t", node, err, should)
			} else if got {
				return errAsItShould
			}
			return err
		}
		for range rapid.IntRange(1, 12).Draw(rt, "steps") {
			r := rapid.SampledFrom(all).Draw(rt, "replica")
			name, p := draw()
			was, there := stored[name]
			var err error
			switch rapid.SampledFrom([]string{"put", "put", "drop", "register", "unregister", "sync"}).Draw(rt, "what") {
			case "put":
				p.sandbox = ""
				err = r.PutForeign(soon(t), message(name, p))
				if !reported[p.node] && (!there || was.sandbox == "") {
					stored[name] = p
				}
			case "drop":
				err = r.DropForeign(soon(t), name)
				if was.sandbox == "" {
					delete(stored, name)
				}
			case "register":
				_, err = r.Register(soon(t), message(name, p))
				if err = refused(err, p.node); err == nil {
					stored[name], reported[p.node] = p, true
				}
			case "unregister":
				err = refused(r.Unregister(soon(t), Sandbox{Namespace: name.Namespace, Name: name.Pod, Node: p.node, ID: p.sandbox}), p.node)
				if err == nil && there && was.node == p.node && was.sandbox == p.sandbox {
					delete(stored, name)
				}
				reported[p.node] = reported[p.node] || err == nil
			case "sync":
				_, err = r.Sync(soon(t), p.node, []*tenancyv1.Pod{message(name, p)})
				maps.DeleteFunc(stored, func(_ Name, other pod) bool { return other.node == p.node })
				stored[name], reported[p.node] = p, true
			}
			if err != nil && !errors.Is(err, errAsItShould) {
				rt.Fatal(err)
			}
			page, err := r.List(Filter{Namespace: run}, 100)
			if err != nil {
				rt.Fatal(err)
			}
			got := map[Name]pod{}
			for _, one := range page.Pods {
				got[nameOf(one)] = pod{one.GetNode(), one.GetSandboxId(), one.GetIps()[0]}
			}
			if !maps.Equal(got, stored) {
				rt.Fatalf("stored is %v, want %v", got, stored)
			}
			for node := range map[string]bool{run + "n1": true, run + "n2": true} {
				if r.IsReported(node) != reported[node] {
					rt.Fatalf("node %s: reported is %t", node, r.IsReported(node))
				}
			}
		}
	})
}
