package kubescale

import (
	"context"
	"fmt"
	"sync"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"
)

// The large cluster: each service has a slice with as many endpoints as there are pods for
// each.
const (
	manyNodes      = 1000
	manyServices   = 5000
	manyPods       = 10000
	manyNamespaces = 100
)

// writers is how many objects are made at once.
const writers = 16

// populate makes a large cluster's objects.
func (s *system) populate(api dynamic.Interface) {
	s.Helper()
	s.all(manyNamespaces, func(i int) error {
		return s.put(api, namespaces, object("v1", "Namespace", "", space(i), nil))
	})
	s.all(manyNodes, func(i int) error {
		return s.put(api, nodes, object("v1", "Node", "", nodeName(i), map[string]any{"status": nodeStatus(i)}))
	})
	s.all(manyServices, func(i int) error {
		name := fmt.Sprintf("svc-%d", i)
		err := s.put(api, services, object("v1", "Service", space(i), name, map[string]any{"spec": map[string]any{
			"selector": map[string]any{"app": name}, "ports": []any{map[string]any{"port": int64(80), "targetPort": int64(8080)}},
		}}))
		if err != nil {
			return err
		}
		return s.put(api, slicesKind, slice(i, name))
	})
	s.all(manyPods, func(i int) error { return s.put(api, pods, pod(i)) })
}

func space(i int) string    { return fmt.Sprintf("ns-%d", i%manyNamespaces) }
func nodeName(i int) string { return fmt.Sprintf("node-%d", i%manyNodes) }

func address(i int) string { return fmt.Sprintf("10.%d.%d.%d", 128+i>>16, i>>8&255, i&255) }

// put makes an object with its status.
func (s *apiserver) put(api dynamic.Interface, kind schema.GroupVersionResource, o *unstructured.Unstructured) error {
	client := api.Resource(kind).Namespace(o.GetNamespace())
	made, err := client.Create(context.Background(), o, metav1.CreateOptions{})
	if err != nil {
		return err
	}
	status, has := o.Object["status"]
	for has {
		made.Object["status"] = status
		_, err := client.UpdateStatus(context.Background(), made, metav1.UpdateOptions{})
		if !apierrors.IsConflict(err) {
			return err
		}
		if made, err = client.Get(context.Background(), o.GetName(), metav1.GetOptions{}); err != nil {
			return err
		}
	}
	return nil
}

// all does something n times, some at once.
func (s *system) all(n int, do func(i int) error) {
	s.Helper()
	numbers := make(chan int)
	var working sync.WaitGroup
	for range writers {
		working.Go(func() {
			for i := range numbers {
				if err := do(i); err != nil {
					s.Error(err)
				}
			}
		})
	}
	for i := range n {
		numbers <- i
	}
	close(numbers)
	working.Wait()
	if s.Failed() {
		s.FailNow()
	}
}

// nodeStatus is about what a kubelet says, with images.
func nodeStatus(i int) map[string]any {
	var images []any
	for n := range 30 {
		images = append(images, map[string]any{
			"names":     []any{fmt.Sprintf("registry.example/team/program-%d@sha256:%064x", n, i*100+n), fmt.Sprintf("registry.example/team/program-%d:v1.%d", n, i)},
			"sizeBytes": int64(100_000_000 + n),
		})
	}
	var conditions []any
	for _, kind := range []string{"MemoryPressure", "DiskPressure", "PIDPressure", "Ready"} {
		conditions = append(conditions, map[string]any{
			"type": kind, "status": "False", "reason": "KubeletHas", "message": "kubelet has what it needs", "lastHeartbeatTime": "2026-01-01T00:00:00Z", "lastTransitionTime": "2026-01-01T00:00:00Z",
		})
	}
	return map[string]any{
		"addresses":  []any{map[string]any{"type": "InternalIP", "address": fmt.Sprintf("192.168.%d.%d", i>>8, i&255)}, map[string]any{"type": "Hostname", "address": nodeName(i)}},
		"conditions": conditions, "images": images,
		"capacity": map[string]any{"cpu": "32", "memory": "128Gi", "pods": "250", "ephemeral-storage": "500Gi"},
		"nodeInfo": map[string]any{
			"machineID": fmt.Sprintf("%032x", i), "systemUUID": fmt.Sprintf("%032x", i), "bootID": fmt.Sprintf("%032x", i), "kernelVersion": "6.12.0", "osImage": "Linux",
			"containerRuntimeVersion": "containerd://2.1.0", "kubeletVersion": "v1.36.3", "kubeProxyVersion": "", "operatingSystem": "linux", "architecture": "amd64",
		},
	}
}

func slice(i int, service string) *unstructured.Unstructured {
	var endpoints []any
	for n := range manyPods / manyServices {
		p := i + n*manyServices
		endpoints = append(endpoints, map[string]any{
			"addresses": []any{address(p)}, "nodeName": nodeName(p), "conditions": map[string]any{"ready": true, "serving": true, "terminating": false},
			"targetRef": map[string]any{"kind": "Pod", "namespace": space(i), "name": podName(p), "uid": fmt.Sprintf("%032x", p)},
		})
	}
	u := object("discovery.k8s.io/v1", "EndpointSlice", space(i), service+"-abcde", map[string]any{
		"addressType": "IPv4", "endpoints": endpoints, "ports": []any{map[string]any{"name": "", "port": int64(8080), "protocol": "TCP"}},
	})
	u.SetLabels(map[string]string{"kubernetes.io/service-name": service, "endpointslice.kubernetes.io/managed-by": "endpointslice-controller.k8s.io"})
	return u
}

func podName(i int) string { return fmt.Sprintf("app-%d-6d4cf56db6-abcde", i) }

// pod is about what a Deployment makes and a kubelet says of it.
func pod(i int) *unstructured.Unstructured {
	mounts := []any{map[string]any{"name": "config", "mountPath": "/etc/app"}, map[string]any{"name": "data", "mountPath": "/data"}}
	var env []any
	for n := range 12 {
		env = append(env, map[string]any{"name": fmt.Sprintf("SETTING_%d", n), "value": fmt.Sprintf("value-%d-of-%d", n, i)})
	}
	var conditions []any
	for _, kind := range []string{"PodReadyToStartContainers", "Initialized", "Ready", "ContainersReady", "PodScheduled"} {
		conditions = append(conditions, map[string]any{"type": kind, "status": "True", "lastTransitionTime": "2026-01-01T00:00:00Z"})
	}
	u := object("v1", "Pod", space(i), podName(i), map[string]any{
		"spec": map[string]any{
			"nodeName": nodeName(i), "automountServiceAccountToken": false,
			"containers": []any{map[string]any{
				"name": "app", "image": "registry.example/team/program:v1", "env": env, "volumeMounts": mounts,
				"ports":          []any{map[string]any{"name": "http", "containerPort": int64(8080)}},
				"resources":      map[string]any{"requests": map[string]any{"cpu": "100m", "memory": "128Mi"}, "limits": map[string]any{"memory": "256Mi"}},
				"readinessProbe": map[string]any{"httpGet": map[string]any{"path": "/ready", "port": int64(8080)}},
			}},
			"volumes": []any{map[string]any{"name": "config", "configMap": map[string]any{"name": "app"}}, map[string]any{"name": "data", "emptyDir": map[string]any{}}},
		},
		"status": map[string]any{
			"phase": "Running", "podIP": address(i), "podIPs": []any{map[string]any{"ip": address(i)}}, "hostIP": fmt.Sprintf("192.168.%d.%d", i%manyNodes>>8, i%manyNodes&255),
			"conditions": conditions, "qosClass": "Burstable", "startTime": "2026-01-01T00:00:00Z",
			"containerStatuses": []any{map[string]any{
				"name": "app", "ready": true, "restartCount": int64(0), "image": "registry.example/team/program:v1", "imageID": fmt.Sprintf("sha256:%064x", i),
				"containerID": fmt.Sprintf("containerd://%064x", i), "state": map[string]any{"running": map[string]any{"startedAt": "2026-01-01T00:00:00Z"}},
			}},
		},
	})
	u.SetLabels(map[string]string{"app": fmt.Sprintf("svc-%d", i%manyServices), "pod-template-hash": "6d4cf56db6"})
	return u
}
