package clustertest

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/damask-sdn/damask/internal/kube/networkv1"
	tenancyv1 "github.com/damask-sdn/damask/proto/damask/tenancy/v1"
)

func TestANamespaceHasAVNIDAsLongAsItIsThere(t *testing.T) {
	w := newWorld(t)
	w.replica()
	op := w.operator()
	object := w.create("shop")
	stored := w.stored(w.ctx(), op, "shop")
	if stored.GetNetid() != object.NetID || object.NetID < 10 || object.NetName != "shop" {
		t.Fatalf("the object has %s %d, the store %v", object.NetName, object.NetID, stored)
	}
	if w.numbered("default").NetID != 0 {
		t.Error("default is not global")
	}
	w.cluster.Kubectl(t, "label", "namespace", "shop", "tier=front")
	w.until("labels", func(ctx context.Context) (string, bool) {
		got := w.stored(ctx, op, "shop").GetLabels()
		return fmt.Sprint(got), got["tier"] == "front" && got[corev1.LabelMetadataName] == "shop"
	})
	w.cluster.Kubectl(t, "label", "namespace", "shop", "tier-")
	w.until("labels without tier", func(ctx context.Context) (string, bool) {
		got := w.stored(ctx, op, "shop").GetLabels()
		return fmt.Sprint(got), len(got) == 1
	})
	w.cluster.DeleteNamespace(t, "shop")
	w.until("the end of shop", func(ctx context.Context) (string, bool) {
		return fmt.Sprint(w.stored(ctx, op, "shop"), w.object(ctx, "shop").Name), w.stored(ctx, op, "shop") == nil && w.object(ctx, "shop").Name == ""
	})
}

func TestWhatIsWrittenByHandIsRestored(t *testing.T) {
	w := newWorld(t)
	w.replica()
	before := w.create("shop")
	w.cluster.Kubectl(t, "patch", "netnamespace", "shop", "--type=merge", "-p", `{"netid": 4711, "egressIPs": ["192.0.2.7"]}`)
	w.until("netid", func(ctx context.Context) (string, bool) {
		object := w.object(ctx, "shop")
		return fmt.Sprint(object.NetID, object.EgressIPs), object.NetID == before.NetID && slices.Equal(object.EgressIPs, []networkv1.EgressIP{"192.0.2.7"})
	})
	w.until("an event", func(context.Context) (string, bool) {
		got := w.cluster.Kubectl(t, "get", "events", "-o", "jsonpath={.items[*].message}", "--field-selector=reason=NetIDRestored")
		return got, strings.Contains(got, "netid 4711 was written") && strings.Contains(got, networkv1.AnnotationChange)
	})
	w.cluster.Kubectl(t, "annotate", "netnamespace", "shop", networkv1.AnnotationMulticast+"=true")
	op := w.operator()
	w.until("multicast", func(ctx context.Context) (string, bool) {
		stored := w.stored(ctx, op, "shop")
		return fmt.Sprint(stored), stored.GetMulticastEnabled()
	})
	w.cluster.Kubectl(t, "delete", "netnamespace", "--all")
	w.until("the object again", func(ctx context.Context) (string, bool) {
		object := w.object(ctx, "shop")
		return fmt.Sprint(object), object.UID != before.UID && object.NetID == before.NetID && object.Annotations[networkv1.AnnotationMulticast] == "true"
	})
	if stored := w.stored(w.ctx(), op, "shop"); stored.GetNetid() != before.NetID || !stored.GetMulticastEnabled() {
		t.Errorf("the store has %v", stored)
	}
}

func (w *world) annotate(name, change string) {
	w.t.Helper()
	w.cluster.Kubectl(w.t, "annotate", "--overwrite", "netnamespace", name, networkv1.AnnotationChange+"="+change)
}

// moved waits until an annotation was carried out.
func (w *world) moved(name, change string, right func(number uint32) bool) {
	w.t.Helper()
	w.annotate(name, change)
	w.until(name+" "+change, func(ctx context.Context) (string, bool) {
		object := w.object(ctx, name)
		_, asked := object.Annotations[networkv1.AnnotationChange]
		return fmt.Sprint(object.NetID, object.Annotations, object.Status), !asked && right(object.NetID)
	})
}

func TestAnnotationsJoinIsolateAndMakeGlobal(t *testing.T) {
	w := newWorld(t)
	w.replica()
	shop, web := w.create("shop"), w.create("web")
	w.cluster.Kubectl(t, "patch", "netnamespace", "web", "--type=merge", "-p", `{"egressIPs": ["192.0.2.7"]}`)
	w.moved("web", "join:shop", func(n uint32) bool { return n == shop.NetID })
	w.moved("web", "isolate", func(n uint32) bool { return n != shop.NetID && n >= 10 })
	w.moved("web", "global", func(n uint32) bool { return n == 0 })
	if object := w.object(w.ctx(), "web"); !slices.Equal(object.EgressIPs, []networkv1.EgressIP{"192.0.2.7"}) || web.NetID == shop.NetID {
		t.Errorf("egress IPs are %v", object.EgressIPs)
	}
	for change, reason := range map[string]string{"join:nobody": "NotFound", "leave": "InvalidAnnotation", "join:No_Name": "InvalidAnnotation"} {
		w.annotate("shop", change)
		w.until(change, func(ctx context.Context) (string, bool) {
			object := w.object(ctx, "shop")
			said := meta.FindStatusCondition(object.Status.Conditions, networkv1.ConditionAccepted)
			ok := said != nil && said.Status == metav1.ConditionFalse && said.Reason == reason && said.ObservedGeneration == object.Generation
			return fmt.Sprint(object), ok && object.Annotations[networkv1.AnnotationChange] == change && object.NetID == shop.NetID
		})
	}
	w.annotate("shop", "join:later")
	later := w.create("later") // What was refused for it is tried again.
	w.until("join:later", func(ctx context.Context) (string, bool) {
		object := w.object(ctx, "shop")
		said := meta.IsStatusConditionTrue(object.Status.Conditions, networkv1.ConditionAccepted)
		return fmt.Sprint(object), object.NetID == later.NetID && said && object.Annotations[networkv1.AnnotationChange] == ""
	})
}

func TestThePluginNameIsTheMode(t *testing.T) {
	w := newWorld(t)
	w.replica()
	op := w.operator()
	w.create("shop")
	w.cluster.Apply(t, `{apiVersion: network.openshift.io/v1, kind: ClusterNetwork, metadata: {name: default}, serviceNetwork: 172.30.0.0/16,
		clusterNetworks: [{CIDR: 10.128.0.0/14, hostSubnetLength: 9}], pluginName: redhat/openshift-ovs-networkpolicy}`)
	mode := func(want tenancyv1.IsolationMode) {
		t.Helper()
		w.until(want.String(), func(ctx context.Context) (string, bool) {
			got, err := op.GetIsolation(ctx, &tenancyv1.GetIsolationRequest{})
			object := &networkv1.ClusterNetwork{}
			if err := w.client.Get(ctx, client.ObjectKey{Name: "default"}, object); err != nil {
				return err.Error(), false
			}
			said := meta.IsStatusConditionTrue(object.Status.Conditions, networkv1.ConditionIsolationMode)
			return fmt.Sprint(got, err, object), got.GetIsolation().GetMode() == want && said
		})
	}
	mode(tenancyv1.IsolationMode_ISOLATION_MODE_NETWORKPOLICY)
	w.annotate("shop", "global")
	w.until("a refusal", func(ctx context.Context) (string, bool) {
		said := meta.FindStatusCondition(w.object(ctx, "shop").Status.Conditions, networkv1.ConditionAccepted)
		return fmt.Sprint(said), said != nil && said.Reason == "WrongMode"
	})
	w.cluster.Kubectl(t, "patch", "clusternetwork", "default", "--type=merge", "-p", `{"pluginName": "redhat/openshift-ovs-multitenant"}`)
	mode(tenancyv1.IsolationMode_ISOLATION_MODE_MULTITENANT)
	w.until("what was refused", func(ctx context.Context) (string, bool) {
		object := w.object(ctx, "shop")
		return fmt.Sprint(object), object.NetID == 0 && object.Annotations[networkv1.AnnotationChange] == ""
	})
}

func TestANewClusterBeginsWithTheConfiguredMode(t *testing.T) {
	w := newWorld(t)
	stop := w.replicaBeginning("networkpolicy")
	w.cluster.Apply(t, `{apiVersion: network.openshift.io/v1, kind: ClusterNetwork, metadata: {name: default}, serviceNetwork: 172.30.0.0/16,
		clusterNetworks: [{CIDR: 10.128.0.0/14, hostSubnetLength: 9}]}`)
	plugin := func(want string) {
		t.Helper()
		w.until(want, func(ctx context.Context) (string, bool) {
			object := &networkv1.ClusterNetwork{}
			if err := w.client.Get(ctx, client.ObjectKey{Name: "default"}, object); err != nil {
				return err.Error(), false
			}
			said := meta.IsStatusConditionTrue(object.Status.Conditions, networkv1.ConditionIsolationMode)
			got, err := w.operator().GetIsolation(ctx, &tenancyv1.GetIsolationRequest{})
			mode := got.GetIsolation().GetMode() == tenancyv1.IsolationMode_ISOLATION_MODE_NETWORKPOLICY
			return fmt.Sprint(object, got, err), object.PluginName == want && said && mode && object.Generation == 2
		})
	}
	plugin("redhat/openshift-ovs-networkpolicy")
	stop()
	w.replicaBeginning("subnet") // What there is stays.
	plugin("redhat/openshift-ovs-networkpolicy")
	w.loseStore()
	plugin("redhat/openshift-ovs-networkpolicy")
}

// TestHowLongANamespaceTakes measures; nothing is asserted of the times. Each is one request.
func TestHowLongANamespaceTakes(t *testing.T) {
	w := newWorld(t)
	w.replica()
	w.numbered("default")
	const count = 100
	var took []time.Duration
	for i := range count {
		began := time.Now()
		w.create(fmt.Sprintf("tenant-%d", i))
		took = append(took, time.Since(began))
	}
	slices.Sort(took)
	var text strings.Builder
	posts := 0
	for line := range strings.SplitSeq(w.cluster.Kubectl(t, "get", "--raw", "/metrics"), "\n") {
		if strings.HasPrefix(line, "apiserver_request_total") && strings.Contains(line, `resource="netnamespaces"`) {
			text.WriteString("\n" + line)
			if _, value, _ := strings.Cut(line, "} "); strings.Contains(line, `verb="POST"`) {
				n, err := strconv.Atoi(value)
				if err != nil {
					t.Fatal(err)
				}
				posts += n
			}
		}
	}
	t.Logf("from Namespace to NetNamespace: median %v, 99th %v of %d; requests:%s", took[count/2], took[count*99/100], count, text.String())
	numbers := map[uint32]bool{}
	var all networkv1.NetNamespaceList
	if err := w.client.List(w.ctx(), &all); err != nil {
		t.Fatal(err)
	}
	for _, object := range all.Items {
		numbers[object.NetID] = true
	}
	if posts != len(all.Items) {
		t.Errorf("%d NetNamespaces were made by %d requests", len(all.Items), posts)
	}
	if len(numbers) < count {
		t.Errorf("%d NetNamespaces have %d VNIDs", len(all.Items), len(numbers))
	}
}
