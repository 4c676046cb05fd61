package kube

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	toolscache "k8s.io/client-go/tools/cache"
	"pgregory.net/rapid"

	"github.com/damask-sdn/damask/internal/bucket"
	"github.com/damask-sdn/damask/internal/kube/networkv1"
	"github.com/damask-sdn/damask/internal/policy"
	tenancyv1 "github.com/damask-sdn/damask/proto/damask/tenancy/v1"
	"github.com/damask-sdn/damask/services/tenancy/labels"
	"github.com/damask-sdn/damask/services/tenancy/netnamespace"
	"github.com/damask-sdn/damask/services/tenancy/policyspec"
	"github.com/damask-sdn/damask/services/tenancy/policystore"
)

func TestWhatTheAnnotationMayAskFor(t *testing.T) {
	for text, want := range map[string]change{
		"isolate": {word: wordIsolate}, "global": {word: wordGlobal}, "join:shop": {word: wordJoin, target: "shop"},
	} {
		if got, err := parseChange(text); err != nil || got != want {
			t.Errorf("%s: %v, %v", text, got, err)
		}
	}
	for _, text := range []string{"", "join", "join:", "join:Shop", "join:a b", "isolate ", "Global", "join:a:b"} {
		if got, err := parseChange(text); refusal(err) != "InvalidAnnotation" {
			t.Errorf("%q: %v, %v", text, got, err)
		}
	}
}

// FuzzChange finds an annotation that is taken and is none of the three.
func FuzzChange(f *testing.F) {
	for _, text := range []string{"isolate", "global", "join:shop", "join:", "JOIN:shop", "join:shop\n"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		c, err := parseChange(text)
		if err != nil {
			return
		}
		written := c.word + c.target
		if written != text || strings.ContainsAny(text, " \n\t") {
			t.Errorf("%q was taken as %q", text, written)
		}
	})
}

func TestRefusalsAreSaidAllAndFailuresAreNot(t *testing.T) {
	var r refusals
	for _, err := range []error{
		&netnamespace.NotFoundError{Name: "shop"}, fmt.Errorf("create: %w", &netnamespace.ExhaustedError{Total: 3}),
		&netnamespace.ModeError{}, &netnamespace.CrowdedError{}, &netnamespace.DefaultError{Verb: "isolated"}, &labels.TooLargeError{},
	} {
		if got := r.add("x", err); got != nil {
			t.Errorf("%v is no refusal", err)
		}
	}
	if r.reason() != "NotFound" || !strings.Contains(r.message(), `"shop"`) || !strings.Contains(r.message(), "all 3 VNIDs") {
		t.Errorf("%s: %s", r.reason(), r.message())
	}
	away := errors.New("away")
	if got := r.add("x", away); !errors.Is(got, away) || len(r) != 6 {
		t.Errorf("a failure: %v, %d refusals", got, len(r))
	}
}

// TestALabelChangeGivesWhatIsWanted applies it.
func TestALabelChangeGivesWhatIsWanted(t *testing.T) {
	some := rapid.MapOf(rapid.SampledFrom([]string{"a", "b", "c"}), rapid.SampledFrom([]string{"", "1", "2"}))
	rapid.Check(t, func(rt *rapid.T) {
		has, wants := some.Draw(rt, "has"), some.Draw(rt, "wants")
		c, any := labelChange(has, wants)
		got, err := c.Apply(has)
		if err != nil || fmt.Sprint(got) != fmt.Sprint(wants) || any != (fmt.Sprint(has) != fmt.Sprint(wants)) {
			rt.Fatalf("%v to %v: %v (%v, %v)", has, wants, got, any, err)
		}
	})
}

func TestKeysNameTheirObjects(t *testing.T) {
	for key, want := range map[string]types.NamespacedName{
		bucket.Key(kindNamespace, "shop"):    {Name: "shop"},
		bucket.Key(kindPod, "shop", "web.0"): {Namespace: "shop", Name: "web.0"},
		bucket.Key(kindIsolation, "cluster"): {Name: "cluster"},
		policystore.Table().Key(policystore.Names(policy.Key{Kind: policyspec.KindNetworkPolicy, Namespace: "shop", Name: "a.b"})...): {Namespace: "shop", Name: "a.b"},
		policystore.Table().Key(policystore.Names(policy.Key{Kind: policyspec.KindAdminPolicy, Name: "a"})...):                        {Name: "a"},
	} {
		if _, got, ok := nameOf(key); !ok || got != want {
			t.Errorf("%s: %v, %v", key, got, ok)
		}
	}
	kind, _, _ := nameOf(policystore.Table().Key(policyspec.KindAdminPolicy, "a"))
	if kind != policyspec.KindAdminPolicy {
		t.Errorf("a policy is a %s", kind)
	}
}

func TestAManifestIsWhatPeopleWrote(t *testing.T) {
	object := networkPolicy.object()
	object.SetName("web")
	object.SetNamespace("shop")
	object.SetUID("1")
	object.Object["spec"] = map[string]any{"podSelector": map[string]any{}, "newer": true}
	object.Object["status"] = map[string]any{"a": "b"}
	text, err := manifestOf(object)
	const want = `{"apiVersion":"networking.k8s.io/v1","kind":"NetworkPolicy","metadata":{"name":"web","namespace":"shop"},"spec":{"newer":true,"podSelector":{}}}`
	if err != nil || text != want {
		t.Errorf("%s, %v", text, err)
	}
	if _, violations := policyspec.Parse([]byte(text)); len(violations) != 1 || violations[0].Field != "spec.newer" {
		t.Errorf("a field that is not known: %v", violations)
	}
}

func TestWhichPodAReportIsOf(t *testing.T) {
	always := corev1.ContainerRestartPolicyAlways
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{UID: "u1"},
		Spec: corev1.PodSpec{
			NodeName:   "n1",
			Containers: []corev1.Container{{Ports: []corev1.ContainerPort{{Name: "http", ContainerPort: 80}, {ContainerPort: 53, Protocol: corev1.ProtocolUDP}}}},
			InitContainers: []corev1.Container{
				{Ports: []corev1.ContainerPort{{Name: "once", ContainerPort: 1}}},
				{Ports: []corev1.ContainerPort{{Name: "side", ContainerPort: 2}}, RestartPolicy: &always},
			},
		},
	}
	var names []string
	for _, p := range portsOf(pod) {
		names = append(names, fmt.Sprintf("%s %d %s", p.GetName(), p.GetContainerPort(), p.GetProtocol()))
	}
	if got := strings.Join(names, ","); got != "http 80 PROTOCOL_TCP, 53 PROTOCOL_UDP,side 2 PROTOCOL_TCP" {
		t.Errorf("ports are %s", got)
	}
	static := pod.DeepCopy()
	static.Annotations = map[string]string{corev1.MirrorPodAnnotationKey: "hash"}
	going := pod.DeepCopy()
	going.DeletionTimestamp = &metav1.Time{}
	for _, c := range []struct {
		what   string
		report *tenancyv1.Pod
		pod    *corev1.Pod
		is     bool
	}{
		{"the UID", &tenancyv1.Pod{Uid: "u1", Node: "n2"}, pod, true},
		{"another UID", &tenancyv1.Pod{Uid: "u2", Node: "n1"}, pod, false},
		{"a Pod from a file", &tenancyv1.Pod{Uid: "hash"}, static, true},
		{"no UID, the node", &tenancyv1.Pod{Node: "n1"}, pod, true},
		{"no UID, another node", &tenancyv1.Pod{Node: "n2"}, pod, false},
		{"no UID, and the Pod goes", &tenancyv1.Pod{Node: "n1"}, going, false},
	} {
		if got := isOf(c.report, c.pod); got != c.is {
			t.Errorf("%s: %v", c.what, got)
		}
	}
}

func TestWhatNetNamespacesHaveIsKept(t *testing.T) {
	k := newKept()
	object := func(name string, number uint32) *networkv1.NetNamespace {
		return &networkv1.NetNamespace{ObjectMeta: metav1.ObjectMeta{Name: name}, NetID: number}
	}
	k.seen(object("shop", 10))
	k.seen(object("web", 10))
	k.seen(object("web", 11))
	k.gone(toolscache.DeletedFinalStateUnknown{Obj: object("web", 10)})
	if !k.Has(10) || k.Has(11) {
		t.Errorf("10: %v, 11: %v", k.Has(10), k.Has(11))
	}
	k.gone(object("shop", 10))
	if k.Has(10) || len(k.number)+len(k.users) != 0 {
		t.Errorf("something is left: %v, %v", k.number, k.users)
	}
}

func TestANetNamespaceIsMadeOnceUntilTheCacheTellsOfIt(t *testing.T) {
	k, shop := newKept(), &networkv1.NetNamespace{ObjectMeta: metav1.ObjectMeta{Name: "shop"}, NetID: 10}
	makes := func(when string, want bool) {
		t.Helper()
		if again := k.making("shop"); (again == 0) != want {
			t.Errorf("%s: again in %v", when, again)
		}
	}
	makes("first", true)
	makes("while nothing is told", false)
	k.notMade("shop")
	makes("after a failure", true)
	k.seen(shop)
	makes("after it was told of since the caller looked", false)
	k.gone(shop)
	makes("after it was deleted", true)
	k.made["shop"] = k.made["shop"].Add(-toldWithin)
	makes("after nothing was told for long", true)
	k.seen(shop)
	if len(k.made) != 0 {
		t.Errorf("something is left: %v", k.made)
	}
}
