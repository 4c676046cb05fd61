package kube

import (
	"encoding/json"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func TestANodeThatHasWorkedIsNeverCalledUnavailable(t *testing.T) {
	condition := func(status corev1.ConditionStatus, reason, message string) *corev1.NodeCondition {
		return &corev1.NodeCondition{Type: corev1.NodeNetworkUnavailable, Status: status, Reason: reason, Message: message}
	}
	waiting := Readiness{Missing: []string{"a subnet", "OVSDB"}}
	works := condition("False", "DamaskIsReady", "Damask adds pods on this node")
	for _, tc := range []struct {
		name  string
		has   *corev1.NodeCondition
		ready Readiness
		want  string // status, reason and message; empty: nothing is written
	}{
		{"a new node that waits", nil, waiting, "True DamaskIsNotReady missing: a subnet; OVSDB"},
		{"one that waits for the same", condition("True", "DamaskIsNotReady", "missing: a subnet; OVSDB"), waiting, ""},
		{"one that waits for something else", condition("True", "DamaskIsNotReady", "missing: a subnet"), waiting, "True DamaskIsNotReady missing: a subnet; OVSDB"},
		{"one that somebody else says is unavailable", condition("True", "NoRouteCreated", "no route"), waiting, "True DamaskIsNotReady missing: a subnet; OVSDB"},
		{"one that worked before the agent started", works, waiting, ""},
		{"one that worked by another's network", condition("False", "RouteCreated", ""), waiting, ""},
		{"one that worked since, and whose Node is new", nil, Readiness{Missing: waiting.Missing, Been: true}, ""},
		{"a new one that is ready", nil, Readiness{}, "False DamaskIsReady Damask adds pods on this node"},
		{"one that waited", condition("True", "DamaskIsNotReady", "missing: a subnet"), Readiness{Been: true}, "False DamaskIsReady Damask adds pods on this node"},
		{"one that works", works, Readiness{Been: true}, ""},
	} {
		got := ""
		if want, write := next(tc.has, tc.ready); write {
			got = string(want.Status) + " " + want.Reason + " " + want.Message
		}
		if got != tc.want {
			t.Errorf("%s: writes %q, want %q", tc.name, got, tc.want)
		}
	}
	long, _ := next(nil, Readiness{Missing: []string{strings.Repeat("ä", maxMessage)}})
	if len(long.Message) > maxMessage || !strings.HasSuffix(long.Message, "ä...") {
		t.Errorf("a message of %d bytes, that ends with %q", len(long.Message), long.Message[len(long.Message)-6:])
	}
}

func TestOnlyOurTaintsGo(t *testing.T) {
	node := &corev1.Node{ObjectMeta: metav1.ObjectMeta{UID: "u"}, Spec: corev1.NodeSpec{Taints: []corev1.Taint{
		{Key: Taint, Effect: corev1.TaintEffectNoSchedule}, {Key: "other", Value: "x", Effect: corev1.TaintEffectNoExecute},
		{Key: Taint, Value: "y", Effect: corev1.TaintEffectNoExecute},
	}}}
	patch, err := json.Marshal(withoutTaints(node))
	if err != nil {
		t.Fatal(err)
	}
	want := `[{"op":"test","path":"/metadata/uid","value":"u"},` +
		`{"op":"test","path":"/spec/taints/2","value":{"key":"damask.io/not-ready","value":"y","effect":"NoExecute"}},{"op":"remove","path":"/spec/taints/2"},` +
		`{"op":"test","path":"/spec/taints/0","value":{"key":"damask.io/not-ready","effect":"NoSchedule"}},{"op":"remove","path":"/spec/taints/0"}]`
	if string(patch) != want {
		t.Errorf("the patch is\n%s, want\n%s", patch, want)
	}
	node.Spec.Taints = node.Spec.Taints[1:2]
	if changes := withoutTaints(node); changes != nil {
		t.Errorf("a node without our taint is patched: %v", changes)
	}
}
