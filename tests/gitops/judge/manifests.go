package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	helm "github.com/fluxcd/helm-controller/api/v2"
	kustomize "github.com/fluxcd/kustomize-controller/api/v1"
	"github.com/fluxcd/pkg/runtime/cel"
	source "github.com/fluxcd/source-controller/api/v1"
	core "k8s.io/api/core/v1"
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	yamldocuments "k8s.io/apimachinery/pkg/util/yaml"
	"sigs.k8s.io/yaml"
)

// Flux's healthCheckExprs by kind.
type fluxChecks map[schema.GroupKind]*cel.StatusEvaluator

// Reads the documents of a file, each strictly as what it says that it is.
func read(path string, flux fluxChecks, argo argoSettings) error {
	text, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	documents := yamldocuments.NewYAMLReader(bufio.NewReader(bytes.NewReader(text)))
	for {
		document, err := documents.Read()
		if errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
		if err := take(document, flux, argo); err != nil {
			return err
		}
	}
}

func take(document []byte, flux fluxChecks, argo argoSettings) error {
	var kind meta.TypeMeta
	if err := yaml.Unmarshal(document, &kind); err != nil {
		return err
	}
	strictly := func(into any) error {
		if err := yaml.UnmarshalStrict(document, into); err != nil {
			return fmt.Errorf("%s: %w", kind.Kind, err)
		}
		return nil
	}
	switch known := kind.APIVersion + " " + kind.Kind; known {
	case "kustomize.toolkit.fluxcd.io/v1 Kustomization":
		var kustomization kustomize.Kustomization
		if err := strictly(&kustomization); err != nil {
			return err
		}
		return flux.add(&kustomization)
	case "helm.toolkit.fluxcd.io/v2 HelmRelease":
		return strictly(&helm.HelmRelease{})
	case "source.toolkit.fluxcd.io/v1 GitRepository":
		return strictly(&source.GitRepository{})
	case "source.toolkit.fluxcd.io/v1 OCIRepository":
		return strictly(&source.OCIRepository{})
	case "v1 Namespace":
		return strictly(&core.Namespace{})
	case "v1 ConfigMap":
		var settings core.ConfigMap
		if err := strictly(&settings); err != nil {
			return err
		}
		return argo.add(settings.Data)
	default:
		return fmt.Errorf("%s is not known here", known)
	}
}

func (flux fluxChecks) add(kustomization *kustomize.Kustomization) error {
	for _, check := range kustomization.Spec.HealthCheckExprs {
		kind := schema.FromAPIVersionAndKind(check.APIVersion, check.Kind).GroupKind()
		if _, twice := flux[kind]; twice {
			return fmt.Errorf("healthCheckExprs of %s are there twice", kind)
		}
		evaluator, err := cel.NewStatusEvaluator(&check.HealthCheckExpressions)
		if err != nil {
			return fmt.Errorf("healthCheckExprs of %s: %w", kind, err)
		}
		flux[kind] = evaluator
	}
	return nil
}

// Keys of argocd-cm that say something of a kind: resource.customizations.WHAT.GROUP_KIND
func (argo argoSettings) add(data map[string]string) error {
	for key, value := range data {
		rest, ok := strings.CutPrefix(key, "resource.customizations.")
		if !ok {
			return fmt.Errorf("%s is not known here", key)
		}
		what, of, _ := strings.Cut(rest, ".")
		group, name, _ := strings.Cut(of, "_")
		kind := schema.GroupKind{Group: group, Kind: name}
		setting := argo[kind]
		switch what {
		case "health":
			setting.healthLua = value
		case "actions":
			if err := yaml.UnmarshalStrict([]byte(value), &setting.actions); err != nil {
				return fmt.Errorf("%s: %w", key, err)
			}
		case "ignoreResourceUpdates", "ignoreDifferences":
			var ignored struct {
				JSONPointers []string `json:"jsonPointers"`
			}
			if err := yaml.UnmarshalStrict([]byte(value), &ignored); err != nil {
				return fmt.Errorf("%s: %w", key, err)
			}
		default:
			return fmt.Errorf("%s is not known here", key)
		}
		argo[kind] = setting
	}
	return nil
}
