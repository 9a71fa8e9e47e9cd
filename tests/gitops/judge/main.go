// Judge says what Flux and Argo CD make of objects, by Flux's own libraries and the Lua interpreter of Argo CD.
//
//	judge MANIFEST... <objects >verdicts
//
// The manifests are those that a user applies: Flux's resources, of which the Kustomization may have healthCheckExprs,
// and Argo CD's ConfigMap argocd-cm. An unknown field of them is an error. Objects are read as JSON, one after the
// other; of each a verdict is printed as a line of JSON. It talks to nobody.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/fluxcd/cli-utils/pkg/kstatus/status"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// What the tools make of one object.
type verdict struct {
	// What kstatus says: of Flux's `wait`, Helm and kpt.
	Kstatus string `json:"kstatus"`
	// What Flux says by the healthCheckExprs for this kind; empty without any.
	Expressions string `json:"expressions"`
	// What Argo CD says by the Lua for this kind.
	Health health `json:"health"`
	// The actions that Argo CD offers, each as the merge patch that it would send.
	Actions map[string]json.RawMessage `json:"actions"`
}

func main() {
	if err := run(os.Args[1:], os.Stdin, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "judge:", err)
		os.Exit(1)
	}
}

func run(manifests []string, in io.Reader, out io.Writer) error {
	flux, argo := fluxChecks{}, argoSettings{}
	for _, path := range manifests {
		if err := read(path, flux, argo); err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
	}
	objects, verdicts := json.NewDecoder(in), json.NewEncoder(out)
	for {
		var raw json.RawMessage
		if err := objects.Decode(&raw); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return fmt.Errorf("read an object: %w", err)
		}
		judged, err := judge(raw, flux, argo)
		if err != nil {
			return err
		}
		if err := verdicts.Encode(judged); err != nil {
			return err
		}
	}
}

func judge(raw []byte, flux fluxChecks, argo argoSettings) (*verdict, error) {
	// Integers must be int64, as they are in the controllers.
	object := &unstructured.Unstructured{}
	if err := object.UnmarshalJSON(raw); err != nil {
		return nil, fmt.Errorf("decode an object: %w", err)
	}
	name := object.GetKind() + " " + object.GetName()
	computed, err := status.Compute(object)
	if err != nil {
		return nil, fmt.Errorf("kstatus of %s: %w", name, err)
	}
	judged := &verdict{Kstatus: computed.Status.String()}
	kind := object.GroupVersionKind().GroupKind()
	if check, ok := flux[kind]; ok {
		result, err := check.Evaluate(context.Background(), object)
		if err != nil {
			return nil, fmt.Errorf("healthCheckExprs over %s: %w", name, err)
		}
		judged.Expressions = result.Status.String()
	}
	if setting, ok := argo[kind]; ok {
		if judged.Health, err = setting.health(raw); err != nil {
			return nil, fmt.Errorf("health of %s: %w", name, err)
		}
		if judged.Actions, err = setting.offered(raw); err != nil {
			return nil, fmt.Errorf("actions on %s: %w", name, err)
		}
	}
	return judged, nil
}
