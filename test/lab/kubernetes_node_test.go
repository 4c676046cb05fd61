package lab

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/wait"
	typedcorev1 "k8s.io/client-go/kubernetes/typed/core/v1"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/util/workqueue"

	"github.com/damask-sdn/damask/internal/kubetest"
)

// standIn does for a node of a lab what of a kubelet's work its network needs, and stands in
// for it: a lab has no kubelet. It has the node's own credentials. It makes the Node, has a
// sandbox with the real plugin for each Pod that is bound to the node, says in the Pod's
// status which address that is, and takes the sandbox away again before the Pod is gone.
// There are no containers: what runs in a pod the test starts.
type standIn struct {
	node string
	ip   string
	lab  *cluster
	api  typedcorev1.CoreV1Interface
	pods cache.Store // as the API server showed them last
	work workqueue.TypedRateLimitingInterface[types.NamespacedName]

	mu        sync.Mutex
	sandboxes map[types.NamespacedName]sandbox
	refused   []string
}

// sandbox is what a pod has on its node.
type sandbox struct {
	uid types.UID
	ip  string
}

// Pauses after what was refused, at first and at most. A kubelet's are longer.
const (
	standInFirst = 50 * time.Millisecond
	standInMost  = time.Second
)

// standInRetries is how it asks for an API server that is away. A kubelet's pauses grow to
// half a minute, and would be most of what is measured.
var standInRetries = wait.Backoff{Duration: standInFirst, Cap: standInMost, Factor: 2, Steps: 10}

// toldStore tells of what changes in a store.
type toldStore struct {
	cache.Store
	tell func(key string)
}

func (s toldStore) Add(object any) error    { return s.after(s.Store.Add(object), object) }
func (s toldStore) Update(object any) error { return s.after(s.Store.Update(object), object) }
func (s toldStore) Delete(object any) error { return s.after(s.Store.Delete(object), object) }

func (s toldStore) Replace(list []any, version string) error {
	before := s.List()
	return s.after(s.Store.Replace(list, version), append(before, list...)...)
}

func (s toldStore) after(err error, objects ...any) error {
	for _, object := range objects {
		if key, err := cache.DeletionHandlingMetaNamespaceKeyFunc(object); err == nil {
			s.tell(key)
		}
	}
	return err
}

// notReady is the taint with which kubelets are told to register Nodes, until Damask takes
// it off.
const notReady = "damask.io/not-ready"

// newStandIn makes a Node, which is ready but for its network.
func newStandIn(t *testing.T, api *kubetest.Cluster, node, ip string) *standIn {
	t.Helper()
	client, err := typedcorev1.NewForConfig(api.AsNode(t, node).Config())
	if err != nil {
		t.Fatal(err)
	}
	made, err := client.Nodes().Create(t.Context(), &corev1.Node{
		ObjectMeta: metav1.ObjectMeta{Name: node, Labels: map[string]string{corev1.LabelHostname: node}},
		Spec:       corev1.NodeSpec{Taints: []corev1.Taint{{Key: notReady, Effect: corev1.TaintEffectNoSchedule}}},
	}, metav1.CreateOptions{})
	if err != nil {
		t.Fatalf("make Node %s: %v", node, err)
	}
	made.Status.Addresses = []corev1.NodeAddress{{Type: corev1.NodeInternalIP, Address: ip}, {Type: corev1.NodeHostName, Address: node}}
	made.Status.Conditions = []corev1.NodeCondition{{
		Type: corev1.NodeReady, Status: corev1.ConditionTrue, Reason: "StandIn", LastTransitionTime: metav1.Now(), LastHeartbeatTime: metav1.Now(),
	}}
	if _, err := client.Nodes().UpdateStatus(t.Context(), made, metav1.UpdateOptions{}); err != nil {
		t.Fatalf("say how Node %s is: %v", node, err)
	}
	return &standIn{node: node, ip: ip, api: client, sandboxes: map[types.NamespacedName]sandbox{}}
}

// run follows the node's Pods until the test ends.
func (s *standIn) run(t *testing.T, lab *cluster) {
	t.Helper()
	s.lab = lab
	s.work = workqueue.NewTypedRateLimitingQueue(workqueue.NewTypedItemExponentialFailureRateLimiter[types.NamespacedName](standInFirst, standInMost))
	s.pods = cache.NewStore(cache.DeletionHandlingMetaNamespaceKeyFunc)
	mine := fields.OneTermEqualSelector("spec.nodeName", s.node)
	reflector := cache.NewReflectorWithOptions(cache.NewListWatchFromClient(s.api.RESTClient(), "pods", metav1.NamespaceAll, mine), &corev1.Pod{},
		toldStore{s.pods, func(key string) {
			if namespace, name, err := cache.SplitMetaNamespaceKey(key); err == nil {
				s.work.Add(types.NamespacedName{Namespace: namespace, Name: name})
			}
		}}, cache.ReflectorOptions{Backoff: &standInRetries})
	ctx, cancel := context.WithCancel(context.Background())
	var ends sync.WaitGroup
	ends.Go(func() { reflector.RunWithContext(ctx) })
	for range 2 { // A kubelet makes several sandboxes at once.
		ends.Go(func() {
			for s.next(ctx) {
			}
		})
	}
	t.Cleanup(func() {
		cancel()
		s.work.ShutDown()
		ends.Wait()
		if t.Failed() {
			t.Logf("what was refused on %s: %s", s.node, strings.Join(s.refused, "\n"))
		}
	})
}

// next works on one Pod, later again if something was refused.
func (s *standIn) next(ctx context.Context) bool {
	name, over := s.work.Get()
	if over {
		return false
	}
	defer s.work.Done(name)
	if err := s.sync(ctx, name); err != nil && ctx.Err() == nil {
		s.mu.Lock()
		s.refused = append(s.refused, fmt.Sprintf("%s %s: %v", time.Now().Format("15:04:05.000"), name, err))
		s.refused = s.refused[max(0, len(s.refused)-20):]
		s.mu.Unlock()
		s.work.AddRateLimited(name)
		return true
	}
	s.work.Forget(name)
	return true
}

// sync makes what the node has of a Pod and the Pod agree.
func (s *standIn) sync(ctx context.Context, name types.NamespacedName) error {
	object, found, err := s.pods.GetByKey(name.String())
	if err != nil {
		return err
	}
	pod, _ := object.(*corev1.Pod)
	ends := found && pod.DeletionTimestamp != nil
	made, has := s.has(name)
	if has && (!found || ends || pod.UID != made.uid) {
		if err := s.remove(name); err != nil {
			return err
		}
		has = false
	}
	switch {
	case !found:
		return nil
	case ends:
		// The grace is over: nothing of the pod is left.
		at := int64(0)
		err := s.api.Pods(name.Namespace).Delete(ctx, name.Name, metav1.DeleteOptions{GracePeriodSeconds: &at, Preconditions: &metav1.Preconditions{UID: &pod.UID}})
		if apierrors.IsNotFound(err) || apierrors.IsConflict(err) {
			return nil
		}
		return err
	case !has:
		if made, err = s.add(pod); err != nil {
			return err
		}
	}
	return s.say(ctx, pod, made.ip)
}

func (s *standIn) has(name types.NamespacedName) (sandbox, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	made, has := s.sandboxes[name]
	return made, has
}

// added is what `damask lab pod add` says.
var added = regexp.MustCompile(`(?m)^pod \S+ added on \S+ with (\S+)$`)

// add has the runtime make a sandbox.
func (s *standIn) add(pod *corev1.Pod) (sandbox, error) {
	args := []string{"lab", "pod", "add", "--name", s.lab.name, pod.Namespace + "/" + pod.Name, "--node", s.node, "--uid", string(pod.UID)}
	for key, value := range pod.Annotations {
		args = append(args, "--annotation", key+"="+value)
	}
	for _, c := range pod.Spec.Containers {
		for _, p := range c.Ports {
			if p.HostPort != 0 {
				args = append(args, "--host-port", fmt.Sprintf("%d:%d/%s", p.HostPort, p.ContainerPort, p.Protocol))
			}
		}
	}
	out, err := s.lab.try(args...)
	if err != nil {
		return sandbox{}, fmt.Errorf("%w: %s", err, out)
	}
	found := added.FindStringSubmatch(out)
	if found == nil {
		return sandbox{}, fmt.Errorf("pod add said %q", out)
	}
	made := sandbox{uid: pod.UID, ip: found[1]}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sandboxes[types.NamespacedName{Namespace: pod.Namespace, Name: pod.Name}] = made
	return made, nil
}

// remove has the runtime take a sandbox away.
func (s *standIn) remove(name types.NamespacedName) error {
	if out, err := s.lab.try("lab", "pod", "delete", "--name", s.lab.name, name.String()); err != nil {
		return fmt.Errorf("%w: %s", err, out)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.sandboxes, name)
	return nil
}

// say writes that a Pod runs, and where.
func (s *standIn) say(ctx context.Context, pod *corev1.Pod, ip string) error {
	if pod.Status.PodIP == ip && pod.Status.Phase == corev1.PodRunning {
		return nil
	}
	pod = pod.DeepCopy()
	now := metav1.Now()
	pod.Status.Phase, pod.Status.StartTime = corev1.PodRunning, &now
	pod.Status.HostIP, pod.Status.HostIPs = s.ip, []corev1.HostIP{{IP: s.ip}}
	pod.Status.PodIP, pod.Status.PodIPs = ip, []corev1.PodIP{{IP: ip}}
	pod.Status.Conditions = nil
	for _, kind := range []corev1.PodConditionType{corev1.PodScheduled, corev1.PodInitialized, corev1.ContainersReady, corev1.PodReady} {
		pod.Status.Conditions = append(pod.Status.Conditions, corev1.PodCondition{Type: kind, Status: corev1.ConditionTrue, LastTransitionTime: now})
	}
	_, err := s.api.Pods(pod.Namespace).UpdateStatus(ctx, pod, metav1.UpdateOptions{})
	if apierrors.IsNotFound(err) {
		return nil
	}
	return err
}

// renew gives a Pod a new sandbox, as a kubelet does when one has died.
func (s *standIn) renew(name types.NamespacedName) error {
	object, found, err := s.pods.GetByKey(name.String())
	if err != nil || !found {
		return errors.Join(err, fmt.Errorf("there is no Pod %s on %s", name, s.node))
	}
	pod, _ := object.(*corev1.Pod)
	if err := s.remove(name); err != nil {
		return err
	}
	_, err = s.add(pod)
	s.work.Add(name) // Its status follows when the API server is there.
	return err
}
